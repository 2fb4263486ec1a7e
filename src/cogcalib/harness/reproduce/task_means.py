"""Means of a table over its tasks, and by which share they are below plain fine-tuning's.

    mean(m)      = 1/T sum_t metric(m, t)
    reduction(m) = 1 - mean(m) / mean(sft), both over the tasks that have both

Tasks with options and open-ended ones stand apart: their confidences are defined differently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from cogcalib.harness.config.methods import label
from cogcalib.harness.report.columns import MISSING
from cogcalib.harness.reproduce.definitions import DEFAULT
from cogcalib.harness.reproduce.markdown import line, metrics_shown
from cogcalib.harness.reproduce.table_rows import RowGroup, TableRow

REFERENCE = "sft"
"""The row that reductions are measured against."""


@dataclass(frozen=True)
class MeanRow:
    """A row of a table over its tasks.

    Attributes:
        name: As listed.
        model: Name of the preset.
        tasks: Tasks that have it, by their own names.
        values: Metric -> mean over these tasks, by seed; fractions, ``nll`` in nats.
        reductions: Confidence definition -> by which share its ECE is below `REFERENCE`'s; below 0
            where it is above. Empty for the reference itself.
        seeds_note: Of the task that most seeds are missing of, see `TableRow`; empty where none is.
    """

    name: str
    model: str
    tasks: tuple[str, ...]
    values: Mapping[str, tuple[float, ...]]
    reductions: Mapping[str, float]
    seeds_note: str = ""

    def mean(self, metric: str) -> float:
        """Over tasks and seeds."""
        return fmean(self.values[metric])

    def deviation(self, metric: str) -> float | None:
        """Of the means over tasks between seeds; None for one seed."""
        values = self.values[metric]
        return stdev(values) if len(values) > 1 else None

    def to_json(self) -> dict[str, Any]:
        """As the record keeps it."""
        found: dict[str, Any] = {"row": self.name, "model": self.model, "tasks": self.tasks}
        found["mean"] = {metric: self.mean(metric) for metric in self.values}
        if any(len(values) > 1 for values in self.values.values()):
            found["deviation"] = {metric: self.deviation(metric) for metric in self.values}
        return found | {"reduction": self.reductions}


def task_means(groups: Sequence[RowGroup]) -> list[list[MeanRow]]:
    """The rows of each model over its tasks in domain, one list for each kind of task."""
    kinds: dict[tuple[str, str], list[RowGroup]] = {}
    for group in groups:
        if group.in_domain and group.place.variant == DEFAULT:
            kinds.setdefault((group.place.model, group.primary), []).append(group)
    return [[mean_row(name, here) for name in _names(here)] for here in kinds.values()]


def means_page(groups: Sequence[RowGroup]) -> Iterator[str]:
    """Lines: the means over the tasks of each kind."""
    for rows in task_means(groups):
        most = max(rows, key=lambda row: len(row.tasks))
        yield f"## {most.model}: mean over {', '.join(most.tasks)}"
        yield ""
        yield from mean_table(rows)
        yield ""
    yield (
        "Means over tasks, then ± standard deviation over seeds. Below SFT's: 1 - mean ECE / mean "
        "ECE of SFT over the tasks that have both; open-ended tasks stand apart."
    )
    yield ""


def mean_table(rows: Sequence[MeanRow]) -> Iterator[str]:
    """Lines: the rows with their means, and by which share their ECEs are below SFT's."""
    most = max(rows, key=lambda row: len(row.tasks))
    # Some methods have fewer confidence definitions than others.
    metrics = list(max(rows, key=lambda row: len(row.values)).values)
    errors = [metric.removeprefix("ece.") for metric in metrics if metric.startswith("ece.")]
    heads = [
        "method",
        *map(_head, metrics),
        *(f"ECE {name} below SFT's by %" for name in errors),
    ]
    yield line(heads)
    yield line([":---", *["---:"] * (len(heads) - 1)])
    for row in rows:
        few = len(most.tasks) - len(row.tasks)
        name = f"{label(row.name)}{f' (without {few} of them)' * bool(few)}{row.seeds_note}"
        shares = [row.reductions.get(each) for each in errors]
        yield line([name, *(_cell(row, metric) for metric in metrics), *map(_share, shares)])


def _names(groups: Sequence[RowGroup]) -> list[str]:
    return list(dict.fromkeys(row.name for group in groups for row in group.rows))


def mean_row(name: str, groups: Sequence[RowGroup]) -> MeanRow:
    """The mean of a row over those of the groups that have it."""
    found = [(group, row) for group in groups if (row := group.find(name)) is not None]
    rows = [row for _, row in found]
    metrics = [metric for metric in metrics_shown(groups[0]) if _shared(metric, rows)]
    values = {metric: _by_seed(metric, rows) for metric in metrics}
    reductions = {}
    for metric in metrics:
        if metric.startswith("ece.") and name != REFERENCE:
            pairs = [(row, other) for group, row in found if (other := group.find(REFERENCE))]
            share = _reduction(metric, pairs)
            if share is not None:
                reductions[metric.removeprefix("ece.")] = share
    tasks = tuple(group.task for group, _ in found)
    note = max(rows, key=lambda row: row.missing).seeds_note
    return MeanRow(name, groups[0].place.model, tasks, values, reductions, note)


def _shared(metric: str, rows: Sequence[TableRow]) -> bool:
    """Whether every task's row has a metric: of a part of the tasks it would be another mean."""
    return all(metric in row.values for row in rows)


def _by_seed(metric: str, rows: Sequence[TableRow]) -> tuple[float, ...]:
    """The mean over the rows for each seed; over all seeds at once if they differ by row."""
    if len({row.seeds for row in rows}) == 1:
        return tuple(map(fmean, zip(*(row.values[metric] for row in rows), strict=True)))
    return (fmean(fmean(row.values[metric]) for row in rows),)


def _reduction(metric: str, pairs: Sequence[tuple[TableRow, TableRow]]) -> float | None:
    held = [pair for pair in pairs if all(metric in row.values for row in pair)]
    reference = sum(fmean(other.values[metric]) for _, other in held)
    if not reference:
        return None
    return 1 - sum(fmean(row.values[metric]) for row, _ in held) / reference


def _head(metric: str) -> str:
    kind, _, definition = metric.partition(".")
    names = {"accuracy": "accuracy %", "nll": "NLL", "brier": "Brier", "aurc": "AURC"}
    return f"ECE {definition} %" if kind == "ece" else names[kind]


def _cell(row: MeanRow, metric: str) -> str:
    if metric not in row.values:
        return MISSING
    percent = metric == "accuracy" or metric.startswith("ece.")
    scale, digits = (100, 1) if percent else (1, 3)
    text = f"{scale * row.mean(metric):.{digits}f}"
    deviation = row.deviation(metric)
    return text if deviation is None else f"{text} ± {scale * deviation:.{digits}f}"


def _share(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:+.0f}"
