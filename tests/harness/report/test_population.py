"""Shares of knowledge by population: places found, bins of equally many, nothing made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from cogcalib.harness.report.population import BINS, by_population, population
from cogcalib.knowledge import CATEGORIES, Knowledge, Probed, Signals
from cogcalib.records import Example
from cogcalib.tasks import load_task


def rows_of(examples: Sequence[Example], categories: Sequence[str]) -> list[Knowledge]:
    return [
        Knowledge(
            example, "", category, ("0",), (True,), (0.5,), (0.5,), 1.0, 0.5, 0.9,
            Signals(0.1, 1.0, 0.1, 0.9, 2),
        )
        for example, category in zip(examples, categories, strict=True)
    ]  # fmt: skip


@pytest.fixture
def examples() -> list[Example]:
    return load_task("atlas/country-open").splits["train"][:100]


def test_population_is_that_of_the_place(examples):
    (row,) = rows_of(examples[:1], CATEGORIES[:1])
    assert isinstance(population(row), int)
    assert population(replace(row, example=replace(row.example, task="other"))) is None


def test_the_smallest_places_stand_first_and_every_question_once(examples):
    rows = rows_of(examples, [CATEGORIES[0]] * len(examples))
    people = sorted(found for row in rows if (found := population(row)) is not None)
    median = people[len(people) // 2]
    rows = [
        replace(row, category=CATEGORIES[0 if (population(row) or 0) >= median else -1])
        for row in rows
    ]
    found = by_population(Probed(rows))
    assert found is not None
    assert sum(found.counts) == len(rows)
    assert max(found.counts) - min(found.counts) <= 1
    assert (found.edges[0], found.edges[-1]) == (people[0], people[-1])
    assert found.edges == sorted(found.edges)
    assert found.shares[0] == [0, 0, 0, 1]
    assert found.shares[-1] == [1, 0, 0, 0]
    assert all(sum(shares) == pytest.approx(1) for shares in found.shares)


def test_too_few_places_make_no_picture(examples):
    few = examples[: 2 * BINS - 1]
    assert by_population(Probed(rows_of(few, [CATEGORIES[0]] * len(few)))) is None
