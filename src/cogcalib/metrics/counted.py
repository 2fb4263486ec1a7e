"""Metrics of a resample, from how often each row was drawn.

Rows are sorted by confidence once. A resample is then a count for each of them, so that no metric
sorts or gathers its own: `CountedRows` holds what every resample shares, `Resample` what belongs to
one. `aurc`, `auroc`, `accuracy_at_coverage`, `coverage_at_accuracy`, `selective_accuracy` and the
accuracy come out to the bit as from the drawn rows. The others, sums of fractions, are added up in
another order and agree to rounding; of fewer than `MANY` rows they are left to the plain metrics.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cogcalib.metrics._validate import BoolVector, FloatVector, check_predictions
from cogcalib.metrics.calibration import (
    bin_index,
    expected_calibration_error,
    mass_ranks,
    maximum_calibration_error,
)
from cogcalib.metrics.scores import accuracy, auroc, brier_score, mean
from cogcalib.metrics.selective import (
    accuracy_at_coverage,
    answered_at,
    aurc,
    coverage_at_accuracy,
    selective_accuracy,
)
from cogcalib.metrics.smooth import CELLS, error_of, on_grid, smooth_calibration_error, spectrum_of

MANY = 10_000
"""Rows from which sums are taken from counts: below, they are fast enough as they are."""

Counts = NDArray[np.integer[Any]]
OnCounts = Callable[[Counts], float]


def counted_metrics(
    metrics: Sequence[Callable[..., float]], arrays: Sequence[NDArray[np.generic]]
) -> list[OnCounts | None]:
    """The same metrics as functions of how often each row was drawn, [n]; None where unknown here.

    Args:
        metrics: Functions of all the arrays, on which they are defined.
        arrays: What they take, [n] each.
    """
    known = _EXACT if len(arrays[0]) < MANY else _EXACT | _SUMS
    found: list[OnCounts | None] = []
    rows = None
    for metric in metrics:
        plain, named = _unwrapped(metric)
        if plain is mean and len(arrays) == 1 and len(arrays[0]) >= MANY:
            found.append(_mean_of(np.asarray(arrays[0], np.float64)))
        elif plain in known and len(arrays) == 2:
            rows = rows or CountedRows(*check_predictions(*arrays))
            found.append(rows.metric(known[plain], named))
        else:
            found.append(None)
    return found


class CountedRows:
    """Predictions sorted by confidence, highest first, for any number of resamples."""

    def __init__(self, confidence: FloatVector, correct: BoolVector) -> None:
        self.n = len(confidence)
        self.order = np.argsort(-confidence, kind="stable")
        self.confidence, self.correct = confidence[self.order], correct[self.order]
        self.residual = self.correct - self.confidence
        begins = np.ones(self.n, dtype=bool)
        np.not_equal(self.confidence[1:], self.confidence[:-1], out=begins[1:])
        self.ties = np.flatnonzero(begins)
        self.tied = len(self.ties) < self.n
        # Of one byte as the counts are: their product costs next to nothing.
        self.right = self.correct.astype(np.uint8)
        self._bins: dict[int, NDArray[np.intp]] = {}
        # A resample of each thread's own.
        self._last = threading.local()

    def metric(self, of: Callable[..., float], named: dict[str, Any]) -> OnCounts:
        """A metric of a resample as a function of its counts."""
        return lambda counts: of(self.resample(counts), **named)

    def resample(self, counts: Counts) -> Resample:
        """What the metrics of one resample share; that of the counts last asked for is kept."""
        last = self._last
        if getattr(last, "counts", None) is not counts:
            last.counts, last.resample = counts, Resample(self, counts)
        resample: Resample = last.resample
        return resample

    def bin_starts(self, bins: int) -> NDArray[np.intp]:
        """The row at which each equal-width bin that is not empty begins."""
        if bins not in self._bins:
            index = bin_index(self.confidence, bins)
            self._bins[bins] = np.flatnonzero(np.diff(index, prepend=-1))
        return self._bins[bins]

    @cached_property
    def grid(self) -> tuple[NDArray[np.intp], NDArray[np.intp], FloatVector, FloatVector]:
        """Cells of smooth ECE that are not empty, where each begins, and the residuals' parts."""
        cell, lower, upper = on_grid(self.confidence, self.correct)
        starts = np.flatnonzero(np.diff(cell, prepend=-1))
        return cell[starts].astype(np.intp), starts, lower, upper

    @cached_property
    def places(self) -> FloatVector:
        """1 ... n."""
        return np.arange(1, self.n + 1, dtype=np.float64)

    @cached_property
    def squares(self) -> FloatVector:
        """Squared residuals."""
        return np.square(self.residual)


class Resample:
    """One resample: how often each sorted row was drawn, and what follows from it when asked."""

    def __init__(self, rows: CountedRows, counts: Counts) -> None:
        self.rows, self.n = rows, rows.n
        self.drawn = counts[rows.order]
        self.weight = self.drawn.astype(np.float64)

    @cached_property
    def residual(self) -> FloatVector:
        """Residuals of each row, as often as it was drawn."""
        return self.weight * self.rows.residual

    @cached_property
    def size(self) -> FloatVector:
        """Draws from each group of equal confidence."""
        return _by_group(self.weight, self.rows)

    @cached_property
    def right(self) -> FloatVector:
        """Draws of correct predictions from each group."""
        return _by_group((self.drawn * self.rows.right).astype(np.float64), self.rows)

    @cached_property
    def answered(self) -> FloatVector:
        """Draws at least as confident as each group."""
        return np.cumsum(self.size)

    @cached_property
    def accuracy_by_coverage(self) -> FloatVector:
        """As `cogcalib.metrics.selective` has it, [n]."""
        if self.rows.tied:
            drawn = np.flatnonzero(self.size)
            size = self.size[drawn]
            expected = np.repeat(self.right[drawn] / size, size.astype(np.intp))
        else:
            expected = np.repeat(self.rows.correct, self.drawn)
        summed = np.cumsum(expected, dtype=np.float64)
        return np.divide(summed, self.rows.places, out=summed)


def _by_group(values: FloatVector, rows: CountedRows) -> FloatVector:
    return np.add.reduceat(values, rows.ties) if rows.tied else values


def _accuracy(drawn: Resample) -> float:
    return float(drawn.right.sum() / drawn.n)


def _brier(drawn: Resample) -> float:
    return float(drawn.weight @ drawn.rows.squares / drawn.n)


def _ece(drawn: Resample, *, bins: int = 15, binning: str = "width") -> float:
    gaps = np.add.reduceat(drawn.residual, _starts(drawn, bins, binning))
    return float(np.abs(gaps).sum() / drawn.n)


def _mce(drawn: Resample, *, bins: int = 15, binning: str = "width") -> float:
    starts = _starts(drawn, bins, binning)
    gaps = np.abs(np.add.reduceat(drawn.residual, starts))
    size = np.add.reduceat(drawn.weight, starts)
    return float((gaps[size > 0] / size[size > 0]).max())


def _starts(drawn: Resample, bins: int, binning: str) -> NDArray[np.intp]:
    """The rows at which bins begin, each once."""
    if binning == "width":
        return drawn.rows.bin_starts(bins)
    # The edge below is the confidence at a rank from below; all above it are the next bins'.
    from_top = drawn.n - 1 - mass_ranks(drawn.n, bins)
    group = np.searchsorted(drawn.answered, from_top, side="right")
    return np.unique(np.concatenate([[0], drawn.rows.ties[group]]))


def _smooth(drawn: Resample) -> float:
    cells, starts, lower, upper = drawn.rows.grid
    mass = np.zeros(CELLS)
    mass[cells] = np.add.reduceat(drawn.weight * lower, starts)
    mass[cells + 1] += np.add.reduceat(drawn.weight * upper, starts)
    return error_of(spectrum_of(mass / drawn.n))


def _auroc(drawn: Resample) -> float:
    right = int(drawn.right.sum())
    wrong = drawn.n - right
    if right == 0 or wrong == 0:
        return float("nan")
    # Twice the Mann-Whitney statistic, from the ranks of correct predictions; whole numbers all.
    twice_ranks = (2 * drawn.n + 1) * right + int(drawn.right @ drawn.size)
    twice_ranks -= 2 * int(drawn.right @ drawn.answered)
    return (twice_ranks - right * (right + 1)) / (2 * right * wrong)


def _aurc(drawn: Resample) -> float:
    return float(1.0 - np.mean(drawn.accuracy_by_coverage))


def _accuracy_at_coverage(drawn: Resample, *, coverage: float) -> float:
    return float(drawn.accuracy_by_coverage[answered_at(coverage, drawn.n) - 1])


def _selective_accuracy(drawn: Resample, *, threshold: float) -> float:
    end = int(np.searchsorted(-drawn.rows.confidence, -threshold, side="right"))
    answered = drawn.weight[:end].sum()
    if not answered:
        return float("nan")
    return float(drawn.weight[:end] @ drawn.rows.right[:end] / answered)


def _coverage_at_accuracy(drawn: Resample, *, accuracy: float) -> float:
    with np.errstate(invalid="ignore"):  # nobody drawn so far: 0 of 0
        reached = np.flatnonzero(np.cumsum(drawn.right) / drawn.answered >= accuracy)
    return float(drawn.answered[reached[-1]] / drawn.n) if reached.size else 0.0


def _mean_of(values: FloatVector) -> OnCounts:
    finite = np.isfinite(values)
    if finite.all():
        return lambda counts: float(counts.astype(np.float64) @ values / len(values))
    rows, others = np.flatnonzero(finite), np.flatnonzero(~finite)

    def mean_of(counts: Counts) -> float:
        drawn = others[counts[others] > 0]
        rest = float(counts[rows].astype(np.float64) @ values[rows])
        return (rest + float(values[drawn].sum())) / len(values)

    return mean_of


def _unwrapped(metric: Callable[..., float]) -> tuple[Callable[..., float], dict[str, Any]]:
    """The function in a partial that fixes named arguments alone, and these."""
    if isinstance(metric, partial) and not metric.args:
        return metric.func, metric.keywords
    return metric, {}


_EXACT: dict[Callable[..., float], Callable[..., float]] = {
    accuracy: _accuracy,
    accuracy_at_coverage: _accuracy_at_coverage,
    aurc: _aurc,
    auroc: _auroc,
    coverage_at_accuracy: _coverage_at_accuracy,
    selective_accuracy: _selective_accuracy,
}
_SUMS: dict[Callable[..., float], Callable[..., float]] = {
    brier_score: _brier,
    expected_calibration_error: _ece,
    maximum_calibration_error: _mce,
    smooth_calibration_error: _smooth,
}
