"""Metrics of few predictions on many resamples at once.

Each metric here is one of `cogcalib.metrics`, computed on all resamples together and equal to it to
the bit: sums are added up in the order in which the rows were drawn. That takes a few passes over
the drawn rows of all resamples, in place of some hundred small steps for each resample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cogcalib.metrics._validate import CHUNK, BoolVector, FloatVector, check_predictions
from cogcalib.metrics.calibration import (
    LANE,
    LANES,
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
from cogcalib.metrics.smooth import (
    CELLS,
    errors_of,
    grid_place,
    smooth_calibration_error,
    spectrum_of,
)

MOST_ROWS = CHUNK
"""Rows that the metrics here take: binned sums of more are made a chunk at a time."""

GRIDS = 128
"""Resamples whose grids of smooth ECE are worked on at once."""

Whole = NDArray[np.int64]
Floats = NDArray[np.float64]


class FewRows:
    """Predictions, and what all their resamples share.

    Attributes:
        n: Number of predictions, at most `MOST_ROWS`.
        confidence, correct: As given, [n].
        group: Number of the group of equal confidence, from 0 for the highest, [n].
        groups: How many there are.
        highest: Confidence of each group, [groups].
    """

    def __init__(self, confidence: FloatVector, correct: BoolVector) -> None:
        self.n, self.confidence, self.correct = len(confidence), confidence, correct
        values, from_below = np.unique(confidence, return_inverse=True)
        self.groups = len(values)
        self.highest = values[::-1]
        self.group: Whole = self.groups - 1 - from_below.astype(np.int64)
        self._bins: dict[int, Whole] = {}

    def bin_of(self, bins: int) -> Whole:
        """The bin of equal width that each prediction lies in, [n]."""
        if bins not in self._bins:
            self._bins[bins] = bin_index(self.confidence, bins).astype(np.int64)
        return self._bins[bins]

    @cached_property
    def grid(self) -> tuple[Whole, FloatVector]:
        """As of `cogcalib.metrics.smooth.grid_place`, [n] each."""
        return grid_place(self.confidence)


class Drawn:
    """Resamples of predictions, and what several metrics need of them.

    Args:
        rows: The predictions.
        drawn: Rows of each resample in the order drawn, [resamples, n].
        correct: Whether each drawn one is taken to be correct, [resamples, n]; as it is if None.
    """

    def __init__(self, rows: FewRows, drawn: Whole, correct: BoolVector | None = None) -> None:
        self.rows, self.drawn, self.n = rows, drawn, rows.n
        self.resamples = len(drawn)
        self.correct = rows.correct.take(drawn) if correct is None else correct
        self._cells: dict[tuple[int, str], Whole] = {}

    @cached_property
    def confidence(self) -> Floats:
        """Of each drawn row, [resamples, n]."""
        return self.rows.confidence.take(self.drawn)

    @cached_property
    def residual(self) -> Floats:
        """Correctness less confidence of each drawn row, [resamples, n]."""
        return self.correct - self.confidence

    def offset(self, size: int) -> Whole:
        """Where each resample's part of a flat array begins, [resamples, 1]."""
        return np.arange(self.resamples)[:, np.newaxis] * size

    @cached_property
    def places(self) -> Whole:
        """Resample times groups plus group of each drawn row, [resamples, n]."""
        places = self.rows.group.take(self.drawn)
        places += self.offset(self.rows.groups)
        return places

    @cached_property
    def size(self) -> Whole:
        """Draws from each group of equal confidence, highest first, [resamples, groups]."""
        return np.asarray(counted(self.places, self.rows.groups))

    @cached_property
    def right(self) -> Floats:
        """Correct ones among them, whole numbers, [resamples, groups]."""
        weights = self.correct.astype(np.float64)
        return np.asarray(counted(self.places, self.rows.groups, weights))

    @cached_property
    def answered(self) -> Whole:
        """Draws from each group and all of higher confidence, [resamples, groups]."""
        return np.cumsum(self.size, axis=1)

    @cached_property
    def answered_right(self) -> Floats:
        """Correct ones among them, [resamples, groups]."""
        return np.cumsum(self.right, axis=1)

    @cached_property
    def accuracy_by_coverage(self) -> Floats:
        """As `cogcalib.metrics.selective` has it, [resamples, n]."""
        with np.errstate(invalid="ignore"):  # of a group that was not drawn: 0 of 0
            share = self.right / self.size
        expected = np.repeat(share.ravel(), self.size.ravel()).reshape(self.resamples, self.n)
        np.cumsum(expected, axis=1, out=expected)
        expected /= np.arange(1, self.n + 1)
        return expected

    def cells(self, bins: int, binning: str) -> Whole:
        """Cells of binned sums for `by_bin`, as `cogcalib.metrics.calibration` has them."""
        if (bins, binning) not in self._cells:
            by_width = binning == "width"
            cells = self.rows.bin_of(bins).take(self.drawn) if by_width else self._mass_bins(bins)
            cells += self.offset(LANES * bins) + LANE[: self.n] * bins
            self._cells[bins, binning] = cells
        return self._cells[bins, binning]

    def by_bin(self, bins: int, binning: str, weights: Floats | None = None) -> Any:
        """Number of the draws in each bin, or the sum of their weights, [resamples, bins]."""
        sums = counted(self.cells(bins, binning), LANES * bins, weights)
        return sums.reshape(self.resamples, LANES, bins).sum(axis=1)

    def _mass_bins(self, bins: int) -> Whole:
        """The bin of equal mass that each drawn row lies in, [resamples, n]."""
        # Edges are at ranks from below, the draws sorted from above.
        ranks = self.offset(self.n) + (self.n - 1 - mass_ranks(self.n, bins))
        edges = np.cumsum(self.size).searchsorted(ranks.ravel(), side="right")
        marks = np.bincount(edges, minlength=self.resamples * self.rows.groups)
        reached = np.cumsum(marks.reshape(self.resamples, -1), axis=1)
        return (bins - 1 - reached).take(self.places)


def counted(cells: Whole, size: int, weights: Floats | None = None) -> Any:
    """Number of the draws in each cell, or the sum of their weights, [resamples, size].

    Args:
        cells: Resample times size plus cell of each drawn row, [resamples, n].
        size: Cells of one resample.
        weights: Of each drawn row, [resamples, n].
    """
    flat = None if weights is None else weights.ravel()
    found = np.bincount(cells.ravel(), weights=flat, minlength=len(cells) * size)
    return found.reshape(len(cells), size)


class DrawnMetrics:
    """Those metrics that are known here, on any resamples of the same arrays.

    Args:
        metrics: Name -> metric, defined on the arrays.
        arrays: What all of them take, [n] each.

    Attributes:
        names: Of the metrics that are known; `on` leaves out the others.
    """

    def __init__(
        self, metrics: Mapping[str, Callable[..., float]], arrays: list[NDArray[Any]]
    ) -> None:
        self._arrays = arrays
        self._known: dict[str, Callable[[Drawn], Floats]] = {}
        self._means: list[str] = []
        if len(arrays) == 1:
            self._means = [name for name, metric in metrics.items() if metric is mean]
        elif len(arrays) == 2 and len(arrays[0]) <= MOST_ROWS:
            for name, metric in metrics.items():
                plain, named = unwrapped(metric)
                if plain in _ON_DRAWN:
                    self._known[name] = partial(_ON_DRAWN[plain], **named)
        self.names = {*self._known, *self._means}
        self._rows = FewRows(*check_predictions(*arrays)) if self._known else None

    def on(self, drawn: Whole, correct: BoolVector | None = None) -> dict[str, Floats]:
        """Name -> the metric on each resample, [resamples]; arguments as of `Drawn`."""
        found = {name: self._arrays[0][drawn].mean(axis=1) for name in self._means}
        if self._rows is not None:
            resamples = Drawn(self._rows, drawn, correct)
            found |= {name: metric(resamples) for name, metric in self._known.items()}
        return found


def unwrapped(metric: Callable[..., float]) -> tuple[Callable[..., float], dict[str, Any]]:
    """The function in a partial that fixes named arguments alone, and these."""
    if isinstance(metric, partial) and not metric.args:
        return metric.func, metric.keywords
    return metric, {}


def _accuracy(drawn: Drawn) -> Floats:
    return np.asarray(drawn.answered_right[:, -1] / drawn.n)


def _brier(drawn: Drawn) -> Floats:
    return np.asarray(np.square(drawn.residual).mean(axis=1))


def _ece(drawn: Drawn, *, bins: int = 15, binning: str = "width") -> Floats:
    return np.asarray(np.abs(drawn.by_bin(bins, binning, drawn.residual)).sum(axis=1) / drawn.n)


def _mce(drawn: Drawn, *, bins: int = 15, binning: str = "width") -> Floats:
    count = drawn.by_bin(bins, binning)
    right = drawn.by_bin(bins, binning, drawn.correct.astype(np.float64))
    total = drawn.by_bin(bins, binning, drawn.confidence)
    with np.errstate(invalid="ignore"):  # empty bins have no gap
        gap = np.where(count > 0, np.abs(right / count - total / count), 0.0)
    return np.asarray(gap.max(axis=1))


def _smooth(drawn: Drawn) -> Floats:
    cell, share = drawn.rows.grid
    found = np.empty(drawn.resamples)
    # A few at once: of each there is a grid of cells, larger than the rows.
    for start in range(0, drawn.resamples, GRIDS):
        some = slice(start, start + GRIDS)
        rows, residual = drawn.drawn[some], drawn.residual[some]
        cells, upper = cell.take(rows), share.take(rows)
        cells += np.arange(len(rows))[:, np.newaxis] * CELLS
        upper *= residual
        mass = counted(cells, CELLS, residual - upper)
        mass[:, 1:] += counted(cells, CELLS, upper)[:, :-1]
        mass /= drawn.n
        found[some] = errors_of(spectrum_of(mass))
    return found


def _auroc(drawn: Drawn) -> Floats:
    right = drawn.answered_right[:, -1]
    wrong = drawn.n - right
    # Of correct draws in each group: wrong ones of lower confidence twice, equal ones once.
    passed = drawn.answered - drawn.answered_right
    passed += passed - (drawn.size - drawn.right)
    twice = 2 * right * wrong - np.einsum("rg,rg->r", drawn.right, passed)
    with np.errstate(invalid="ignore"):  # undefined where all are correct or wrong
        return np.asarray(twice / (2 * right * wrong))


def _aurc(drawn: Drawn) -> Floats:
    return np.asarray(1.0 - drawn.accuracy_by_coverage.mean(axis=1))


def _accuracy_at_coverage(drawn: Drawn, coverage: float) -> Floats:
    return drawn.accuracy_by_coverage[:, answered_at(coverage, drawn.n) - 1]


def _selective_accuracy(drawn: Drawn, threshold: float) -> Floats:
    end = int(np.searchsorted(-drawn.rows.highest, -threshold, side="right"))
    if not end:
        return np.full(drawn.resamples, np.nan)
    with np.errstate(invalid="ignore"):  # nobody is that confident
        return np.asarray(drawn.answered_right[:, end - 1] / drawn.answered[:, end - 1])


def _coverage_at_accuracy(drawn: Drawn, accuracy: float) -> Floats:
    with np.errstate(invalid="ignore"):  # nobody drawn so far: 0 of 0
        reached = drawn.answered_right / drawn.answered >= accuracy
    last = drawn.rows.groups - 1 - np.argmax(reached[:, ::-1], axis=1)
    answered = np.take_along_axis(drawn.answered, last[:, np.newaxis], axis=1)[:, 0]
    return np.where(reached.any(axis=1), answered / drawn.n, 0.0)


_ON_DRAWN: Mapping[Callable[..., float], Callable[..., Floats]] = {
    accuracy: _accuracy,
    accuracy_at_coverage: _accuracy_at_coverage,
    aurc: _aurc,
    auroc: _auroc,
    brier_score: _brier,
    coverage_at_accuracy: _coverage_at_accuracy,
    expected_calibration_error: _ece,
    maximum_calibration_error: _mce,
    selective_accuracy: _selective_accuracy,
    smooth_calibration_error: _smooth,
}
