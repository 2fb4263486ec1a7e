"""From the rows of ``metrics.json`` to one summary per task and method: all computing, no drawing.

With one seed a statistic carries its bootstrap interval; with several, mean and standard deviation.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cogcalib.harness.config.methods import canonical_order
from cogcalib.harness.report.row_checks import check_rows
from cogcalib.metrics import SMALL_N, ece_label
from cogcalib.scoring import ranked
from cogcalib.scoring.metrics_row import BINS, WANTED


@dataclass(frozen=True, slots=True)
class Statistic:
    """One number of one method, a value per seed.

    Attributes:
        values: The finite values, one per seed, in the order of the seeds.
        low, high: Bounds of the bootstrap interval if there is exactly one seed, else None.
    """

    values: tuple[float, ...]
    low: float | None = None
    high: float | None = None

    @property
    def mean(self) -> float | None:
        """Mean over seeds; None if no seed has a finite value."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over seeds; None with fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True, slots=True)
class MethodSummary:
    """What is known of one method on one task, over all its seeds. Fractions; NLL in nats.

    Attributes:
        method, seeds, n: Whose, and of how many questions.
        accuracy, nll, brier, aurc: The last two of the primary confidence.
        known_first_epoch, known_last_epoch: Share of the training examples that the gate called
            known in its first and in its last epoch.
        ece, auroc: By confidence definition.
        floor: By definition, where the ECE of a perfectly calibrated model with the same
            confidences falls, mean over seeds; None if nobody computed it.
        coverage, threshold: By metric, ``coverage_at_90`` and ``coverage_at_95``: share that can be
            answered at that accuracy, and from which confidence on.
        risks: The risk-coverage curve, (coverage, error), mean over seeds; empty if unknown.
    """

    method: str
    seeds: tuple[int | None, ...]
    n: int
    accuracy: Statistic
    nll: Statistic
    brier: Statistic
    aurc: Statistic
    known_first_epoch: Statistic
    known_last_epoch: Statistic
    ece: Mapping[str, Statistic]
    floor: Mapping[str, tuple[float, float] | None]
    auroc: Mapping[str, Statistic]
    coverage: Mapping[str, Statistic]
    threshold: Mapping[str, Statistic]
    risks: tuple[tuple[float, float], ...]

    def within_floor(self, definition: str) -> bool:
        """Whether chance alone gives a calibrated model an ECE as high as this one."""
        mean, floor = self.ece[definition].mean, self.floor[definition]
        return mean is not None and floor is not None and mean <= floor[1]


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """All methods on one split of one task, in canonical order.

    Attributes:
        task, split: What was measured.
        in_domain: Whether the methods were trained on this task; None if nobody knows.
        definitions: Confidence definitions that all rows share, the primary one first.
        n: Number of examples, the least of any method.
        small_n: Whether n is below `SMALL_N`, where a binned ECE is mostly noise.
        scored: Confidence definition of the Brier score and the AURC.
        bins, binning: Of the ECEs, as in `cogcalib.metrics.expected_calibration_error`.
        methods: One summary per method.
    """

    task: str
    split: str
    in_domain: bool | None
    definitions: tuple[str, ...]
    n: int
    small_n: bool
    bins: int
    binning: str
    scored: str
    methods: tuple[MethodSummary, ...]

    def __getitem__(self, method: str) -> MethodSummary:
        """The summary of one method."""
        return {summary.method: summary for summary in self.methods}[method]

    def __contains__(self, method: str) -> bool:
        """Whether the method was measured on this task."""
        return any(summary.method == method for summary in self.methods)

    @property
    def primary(self) -> str:
        """Confidence definition of the primary ECE."""
        return self.definitions[0]

    def ece(self, method: str) -> Statistic:
        """The primary ECE of one method."""
        return self[method].ece[self.primary]

    @property
    def several_n(self) -> bool:
        """Whether methods were measured on different numbers of examples."""
        return len({summary.n for summary in self.methods}) > 1

    @property
    def ece_label(self) -> str:
        """What must stand beside the primary ECEs: bins, binning, confidence and n."""
        return self.ece_label_of(self.primary)

    def ece_label_of(self, definition: str) -> str:
        """The same of the ECEs of any definition."""
        label = ece_label(definition, self.n, bins=self.bins, binning=self.binning)
        return f"{label} to {max(row.n for row in self.methods):,}" if self.several_n else label

    @property
    def several_seeds(self) -> bool:
        """Whether any method was run with more than one seed."""
        return any(len(summary.seeds) > 1 for summary in self.methods)

    @property
    def best(self) -> frozenset[str]:
        """The methods whose primary ECE is lowest at the precision shown (0.1 percentage point).

        None, where the lowest lies within its noise floor and another's within its own: which of
        such two is lower is chance.
        """
        shown = {
            summary.method: round(100 * mean, 1)
            for summary in self.methods
            if (mean := summary.ece[self.primary].mean) is not None
        }
        lowest = {name for name, value in shown.items() if value == min(shown.values())}
        within = {row.method for row in self.methods if row.within_floor(self.primary)}
        return frozenset() if lowest & within and len(within) > 1 else frozenset(lowest)


def group_rows(
    rows: Sequence[Mapping[str, Any]], *, split: str = "test", in_domain: str | None = None
) -> tuple[TaskSummary, ...]:
    """Summaries per task, the in-domain task first, the others in the order of the rows.

    Unless named, the in-domain task is the one that has a calibration split: methods are tuned
    there. Without one it is the task of the first row.

    Args:
        rows: Rows of ``metrics.json``; fractions.
        split: The split to keep.
        in_domain: The task the methods were trained on, if the caller knows it; the empty string if
            nobody does.

    Raises:
        ValueError: If there is no row of the split, a row misses a key, two rows have the same
            method, task and seed, or the ECEs of one task share no confidence definition or differ
            in their bins.
    """
    check_rows(rows)
    kept = [row for row in rows if row["split"] == split]
    if not kept:
        found = sorted({str(row["split"]) for row in rows})
        raise ValueError(f"split must be one of those in the rows, {found}, got {split!r}")
    tuned = [str(row["task"]) for row in rows if row["split"] == "calibration"]
    home = in_domain
    if home is None:
        home = tuned[0] if tuned else str(rows[0]["task"])
    tasks = sorted(dict.fromkeys(str(row["task"]) for row in kept), key=lambda task: task != home)
    return tuple(
        _group_task(
            task,
            split,
            [row for row in kept if row["task"] == task],
            in_domain=task == home if home else None,
        )
        for task in tasks
    )


def _group_task(
    task: str, split: str, rows: Sequence[Mapping[str, Any]], *, in_domain: bool | None
) -> TaskSummary:
    shared = set.intersection(*(set(row["ece"]) for row in rows))
    definitions = ranked(shared)
    if not definitions:
        raise ValueError(f"the ECEs of task {task!r} share no confidence definition")
    names = sorted({str(row["method"]) for row in rows}, key=canonical_order)
    n = min(int(row["n"]) for row in rows)
    bins, binning = _binning(task, rows)
    return TaskSummary(
        task=task,
        split=split,
        in_domain=in_domain,
        definitions=tuple(definitions),
        n=n,
        small_n=n < SMALL_N,
        bins=bins,
        binning=binning,
        # Rows of earlier releases may have had another primary definition.
        scored=next(iter(rows[0].get("aurc") or ranked(shared))),
        methods=tuple(
            _group_method(name, [row for row in rows if row["method"] == name], definitions)
            for name in names
        ),
    )


def _binning(task: str, rows: Sequence[Mapping[str, Any]]) -> tuple[int, str]:
    """Bins and binning of all ECEs; rows written before they were noted have the standard ones."""
    found = {
        (int(each.get("bins", BINS)), str(each.get("binning", "width")))
        for row in rows
        for each in row["ece"].values()
    }
    if len(found) > 1:
        raise ValueError(f"the ECEs of task {task!r} differ in their bins: {sorted(found)}")
    return found.pop()


def _group_method(
    method: str, rows: Sequence[Mapping[str, Any]], definitions: Sequence[str]
) -> MethodSummary:
    rows = sorted(rows, key=lambda row: -1 if row["seed"] is None else row["seed"])
    intervals = rows[0].get("intervals") or {}

    def plain(key: str) -> Statistic:
        return _statistic([row.get(key) for row in rows], intervals.get(key))

    def ece(definition: str) -> Statistic:
        first = rows[0]["ece"][definition]
        values = [row["ece"][definition]["value"] for row in rows]
        return _statistic(values, (first.get("low"), first.get("high")))

    def of_primary(metric: str, key: str = "value") -> Statistic:
        found: list[Mapping[str, Any]] = [
            next(iter((row.get(metric) or {}).values()), {}) for row in rows
        ]
        bounds = (found[0].get("low"), found[0].get("high")) if key == "value" else None
        return _statistic([each.get(key) for each in found], bounds)

    return MethodSummary(
        method=method,
        seeds=tuple(row["seed"] for row in rows),
        n=int(rows[0]["n"]),
        accuracy=plain("accuracy"),
        nll=plain("nll"),
        brier=plain("brier"),
        aurc=of_primary("aurc"),
        known_first_epoch=plain("known_first_epoch"),
        known_last_epoch=plain("known_last_epoch"),
        ece={name: ece(name) for name in definitions},
        floor={name: _floor(rows, name) for name in definitions},
        auroc={
            name: _statistic(
                [(row.get("auroc") or {}).get(name) for row in rows],
                (intervals.get("auroc") or {}).get(name),
            )
            for name in definitions
        },
        coverage={name: of_primary(name) for name in WANTED},
        threshold={name: of_primary(name, "threshold") for name in WANTED},
        risks=_risks(rows),
    )


def _floor(rows: Sequence[Mapping[str, Any]], definition: str) -> tuple[float, float] | None:
    """Ends of the noise floor, means over the seeds; None where a row has none."""
    found = [row["ece"][definition].get("floor") for row in rows]
    if not all(found):
        return None
    low, high = (statistics.fmean(ends) for ends in zip(*found, strict=True))
    return low, high


def _risks(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[float, float], ...]:
    """Points of the risk-coverage curve, means over the seeds."""
    curves = [each for row in rows for each in (row.get("risk_coverage") or {}).values()]
    if len(curves) < len(rows):
        return ()
    errors = zip(*(curve["error"] for curve in curves), strict=True)
    return tuple(zip(curves[0]["coverage"], map(statistics.fmean, errors), strict=True))


def _statistic(
    values: Sequence[float | None], interval: Sequence[float | None] | None
) -> Statistic:
    finite = tuple(float(v) for v in values if v is not None and math.isfinite(v))
    if interval is None or len(values) != 1 or not finite:
        return Statistic(finite)
    low, high = interval
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return Statistic(finite)
    return Statistic(finite, float(low), float(high))
