"""Resamples of sorted predictions, as how often each row was drawn.

`CountedRows` holds what every resample shares, `Resamples` what belongs to some of them.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cogcalib.metrics._validate import BoolVector, FloatVector
from cogcalib.metrics.calibration import bin_index, mass_ranks
from cogcalib.metrics.smooth import grid_place

Counts = NDArray[np.integer[Any]]
Whole = NDArray[np.int64]
Floats = NDArray[np.float64]


class CountedRows:
    """Predictions sorted by confidence, highest first, for any number of resamples.

    Attributes:
        n: Number of predictions.
        order: The prediction in each row, [n].
        confidence, correct: Of each row, [n].
        groups: The first row of each group of equal confidence, [groups].
    """

    def __init__(self, confidence: FloatVector, correct: BoolVector) -> None:
        self.n = len(confidence)
        self.order = np.argsort(-confidence, kind="stable")
        self.confidence, self.correct = confidence[self.order], correct[self.order]
        begins = np.ones(self.n, dtype=bool)
        np.not_equal(self.confidence[1:], self.confidence[:-1], out=begins[1:])
        self.groups = np.flatnonzero(begins)
        self._bins: dict[int, NDArray[np.intp]] = {}

    def bins(self, bins: int) -> NDArray[np.intp]:
        """The row at which each bin of equal width that is not empty begins."""
        if bins not in self._bins:
            index = bin_index(self.confidence, bins)
            self._bins[bins] = np.flatnonzero(np.diff(index, prepend=-1))
        return self._bins[bins]

    @cached_property
    def grid(self) -> tuple[Whole, FloatVector]:
        """As of `cogcalib.metrics.smooth.grid_place`, [n] each."""
        return grid_place(self.confidence)

    @cached_property
    def harmonic(self) -> FloatVector:
        """The sum of 1/1 to 1/k for k from 0 to n, [n + 1]."""
        return np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, self.n + 1))])


class Resamples:
    """Resamples of the same rows, and what several metrics need of them.

    Args:
        rows: What every resample shares.
        counts: How often each prediction was drawn, [resamples, n]; every resample has n draws.
        correct: Whether each prediction is taken to be correct, [resamples, n]; as it is if None.

    Attributes:
        drawn: Draws of each sorted row, [resamples, n].
        right: Correct ones among them, [resamples, n].
    """

    def __init__(self, rows: CountedRows, counts: Counts, correct: BoolVector | None) -> None:
        self.rows, self.n, self.number = rows, rows.n, len(counts)
        self.drawn = counts.take(rows.order, axis=1)
        outcome = rows.correct if correct is None else correct.take(rows.order, axis=1)
        self.right = self.drawn * outcome
        self._gaps: dict[tuple[int, str], tuple[Floats, Floats]] = {}

    @cached_property
    def residual(self) -> Floats:
        """Correctness less confidence of the draws of each row, added up, [resamples, n]."""
        return self.right - self.drawn * self.rows.confidence

    @cached_property
    def answered(self) -> Whole:
        """Draws from the groups above each and, last, from all, [resamples, groups + 1].

        A group is rows of equal confidence, the highest first.
        """
        return _so_far(self._by_group(self.drawn))

    @cached_property
    def answered_right(self) -> Whole:
        """Correct ones among them."""
        return _so_far(self._by_group(self.right))

    @cached_property
    def shares(self) -> Floats:
        """Accuracy of the draws from each group, [resamples, groups]; 0 of one not drawn."""
        size = np.maximum(self._by_group(self.drawn), 1)
        return np.divide(self._by_group(self.right), size, dtype=np.float64)

    def group_at(self, places: Whole) -> Whole:
        """Number of the group of the k-th most confident draw, for each k of `places`, from 1 on.

        Args:
            places: [resamples, k].
        """
        offsets = np.arange(self.number)[:, np.newaxis]
        so_far = (self.answered[:, 1:] + offsets * self.n).ravel()
        found = so_far.searchsorted((places + offsets * self.n).ravel())
        return found.reshape(self.number, -1) - offsets * len(self.rows.groups)

    def gaps(self, bins: int, binning: str) -> tuple[Floats, Floats]:
        """Sum of the residuals in each bin, in no order, and number of draws, [resamples, bins].

        Bins that no resample can fill may be missing.
        """
        if (bins, binning) not in self._gaps:
            of_width = binning == "width"
            gaps = self._by_width(bins) if of_width else self._by_mass(bins)
            self._gaps[bins, binning] = gaps
        return self._gaps[bins, binning]

    def _by_width(self, bins: int) -> tuple[Floats, Floats]:
        starts = self.rows.bins(bins)
        gaps = np.add.reduceat(self.residual, starts, axis=1)
        return gaps, np.add.reduceat(self.drawn, starts, axis=1, dtype=np.float64)

    def _by_mass(self, bins: int) -> tuple[Floats, Floats]:
        # The edge below is the confidence at a rank from below; all above are the next bin's.
        places = self.n - mass_ranks(self.n, bins)
        edges = np.zeros((self.number, bins), dtype=np.int64)
        edges[:, 1:] = self.group_at(np.broadcast_to(places, (self.number, bins - 1)))
        edges += np.arange(self.number)[:, np.newaxis] * len(self.rows.groups)
        # Edges within a tie are one, and the bins between them empty.
        starts, bin_of = np.unique(edges, return_index=True)
        found = np.zeros((2, self.number * bins))
        for sums, values in zip(found, (self.residual, self.drawn), strict=True):
            of_groups = self._by_group(values).ravel()
            sums[bin_of] = np.add.reduceat(of_groups, starts, dtype=np.float64)
        gaps, size = found.reshape(2, self.number, bins)
        return gaps, size

    def _by_group(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sums over the rows of each group, [resamples, groups]."""
        groups = self.rows.groups
        if len(groups) == self.n:
            return values
        whole = np.issubdtype(values.dtype, np.integer)
        dtype = np.int64 if whole else np.float64
        return np.asarray(np.add.reduceat(values, groups, axis=1, dtype=dtype))


def _so_far(sizes: NDArray[np.integer[Any]]) -> Whole:
    """Sums of the columns before each, and of all, [resamples, columns + 1]."""
    sums = np.zeros((len(sizes), sizes.shape[1] + 1), dtype=np.int64)
    np.cumsum(sizes, axis=1, out=sums[:, 1:])
    return sums
