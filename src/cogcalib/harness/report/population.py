"""Knowledge against fame: how many people live in the places that a probe asked about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cogcalib.harness.report.probe_tables import shares
from cogcalib.knowledge import Knowledge, Probed
from cogcalib.tasks.atlas import RELATIONS, TASKS, facts

BINS = 8


@dataclass(frozen=True, slots=True)
class ByPopulation:
    """Questions in bins of equally many, in ascending population.

    Attributes:
        edges: Bounds of the bins, people; one more than bins.
        counts: Questions in each bin.
        shares: For each bin one fraction a category, in the order of `CATEGORIES`.
    """

    edges: list[int]
    counts: list[int]
    shares: list[list[float]]


def by_population(rows: Probed) -> ByPopulation | None:
    """Shares of the categories by population; None without places, or with too few."""
    found = [(people, row) for row in rows if (people := population(row)) is not None]
    if len(found) < 2 * BINS:
        return None
    found.sort(key=lambda pair: pair[0])
    parts = np.array_split(np.arange(len(found)), BINS)
    return ByPopulation(
        edges=[*(found[part[0]][0] for part in parts), found[-1][0]],
        counts=[len(part) for part in parts],
        shares=[shares([found[index][1] for index in part]) for part in parts],
    )


def population(row: Knowledge) -> int | None:
    """People living in the place that a question of an embedded task is about."""
    task = row.example.task
    if task not in TASKS:
        return None
    spec = RELATIONS[TASKS[task][0]]
    name = row.example.id.removeprefix(f"{task}/")
    people = {each[spec.subject]: int(each["population"]) for each in facts(spec.table)}
    return people.get(name)
