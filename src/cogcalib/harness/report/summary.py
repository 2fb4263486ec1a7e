"""From the rows of ``metrics.json`` to one summary per task and method: all computing, no drawing.

With one seed a statistic carries its bootstrap interval; with several, mean and standard deviation.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cogcalib.artifacts import is_number
from cogcalib.harness.config.methods import canonical_order
from cogcalib.metrics import SMALL_N, ece_label
from cogcalib.scoring import MULTIPLE_CHOICE, OPEN_ENDED
from cogcalib.scoring.metrics_row import BINS

REQUIRED = ("method", "task", "split", "seed", "n", "accuracy", "nll", "brier", "ece")


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
    """What is known of one method on one task, over all its seeds. Fractions; NLL in nats."""

    method: str
    seeds: tuple[int | None, ...]
    n: int
    accuracy: Statistic
    nll: Statistic
    brier: Statistic
    share_known: Statistic
    ece: Mapping[str, Statistic]
    auroc: Mapping[str, Statistic]


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """All methods on one split of one task, in canonical order.

    Attributes:
        task, split: What was measured.
        in_domain: Whether the methods were trained on this task; None if nobody knows.
        definitions: Confidence definitions that all rows share, the primary one first.
        n: Number of examples, the least of any method.
        small_n: Whether n is below `SMALL_N`, where a binned ECE is mostly noise.
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
        label = ece_label(self.primary, self.n, bins=self.bins, binning=self.binning)
        return f"{label} to {max(row.n for row in self.methods):,}" if self.several_n else label

    @property
    def several_seeds(self) -> bool:
        """Whether any method was run with more than one seed."""
        return any(len(summary.seeds) > 1 for summary in self.methods)

    @property
    def best(self) -> frozenset[str]:
        """The methods whose primary ECE is lowest at the precision shown (0.1 percentage point)."""
        shown = {
            summary.method: round(100 * mean, 1)
            for summary in self.methods
            if (mean := summary.ece[self.primary].mean) is not None
        }
        return frozenset(name for name, value in shown.items() if value == min(shown.values()))


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


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return value is None or is_number(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and is_number(value) and value > 0


def _are_errors(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(each, Mapping) and _is_number(each.get("value")) for each in value.values()
    )


_FITS: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("method", "task", "split"), _is_text),
    **dict.fromkeys(("seed", "accuracy", "nll", "brier"), _is_number),
    "n": _is_count,
    "ece": _are_errors,
}


def check_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError, naming row and key, unless the rows are those of a ``metrics.json``."""
    seen = set()
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise ValueError(f"metrics row {number} must be an object, got {str(row)[:80]}")
        if missing := [key for key in REQUIRED if key not in row]:
            raise ValueError(f"metrics row {number} misses {missing}; it has {sorted(row)}")
        for key, fits in _FITS.items():
            if not fits(row[key]):
                raise ValueError(f"metrics row {number}: {key} cannot be {str(row[key])[:80]!r}")
        identity = (row["method"], row["task"], row["split"], row["seed"])
        if identity in seen:
            raise ValueError(f"metrics row {number} repeats (method, task, split, seed) {identity}")
        seen.add(identity)


def _group_task(
    task: str, split: str, rows: Sequence[Mapping[str, Any]], *, in_domain: bool | None
) -> TaskSummary:
    shared = set.intersection(*(set(row["ece"]) for row in rows))
    ranked = [name for name in (*MULTIPLE_CHOICE, *OPEN_ENDED) if name in shared]
    ranked += sorted(shared - set(ranked))
    if not ranked:
        raise ValueError(f"the ECEs of task {task!r} share no confidence definition")
    names = sorted({str(row["method"]) for row in rows}, key=canonical_order)
    n = min(int(row["n"]) for row in rows)
    bins, binning = _binning(task, rows)
    return TaskSummary(
        task=task,
        split=split,
        in_domain=in_domain,
        definitions=tuple(ranked),
        n=n,
        small_n=n < SMALL_N,
        bins=bins,
        binning=binning,
        methods=tuple(
            _group_method(name, [row for row in rows if row["method"] == name], ranked)
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

    return MethodSummary(
        method=method,
        seeds=tuple(row["seed"] for row in rows),
        n=int(rows[0]["n"]),
        accuracy=plain("accuracy"),
        nll=plain("nll"),
        brier=plain("brier"),
        share_known=plain("share_known"),
        ece={name: ece(name) for name in definitions},
        auroc={
            name: _statistic(
                [(row.get("auroc") or {}).get(name) for row in rows],
                (intervals.get("auroc") or {}).get(name),
            )
            for name in definitions
        },
    )


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
