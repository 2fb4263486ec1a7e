"""Resamples of sorted predictions, as how often each row was drawn.

`CountedRows` holds what every resample shares, `Resample` what belongs to one. Rows are worked on
in blocks that fit a processor core's own cache.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cogcalib.metrics._validate import BoolVector, FloatVector
from cogcalib.metrics.calibration import bin_index, mass_ranks
from cogcalib.metrics.smooth import on_grid

BLOCK = 1 << 15
"""Rows worked on at once: their few arrays of floats fit a processor core's own cache."""

FEW = 1 << 10
"""Rows among which one is looked for."""

Counts = NDArray[np.integer[Any]]
OnCounts = Callable[[Counts], float]


class CountedRows:
    """Predictions sorted by confidence, highest first, for any number of resamples."""

    def __init__(self, confidence: FloatVector, correct: BoolVector) -> None:
        self.n = len(confidence)
        self.order = np.argsort(-confidence, kind="stable")
        self.confidence = confidence[self.order]
        self.correct = correct[self.order].astype(np.float64)
        self.residual = self.correct - self.confidence
        begins = np.ones(self.n, dtype=bool)
        np.not_equal(self.confidence[1:], self.confidence[:-1], out=begins[1:])
        self.ties = np.flatnonzero(begins)
        self.tied = len(self.ties) < self.n
        # Blocks of rows begin where a group of equal confidence does.
        firsts = np.searchsorted(self.ties, np.arange(0, self.n, BLOCK))
        self.groups = np.unique(np.minimum(firsts, len(self.ties) - 1))
        ends = np.append(self.ties[self.groups[1:]], self.n)
        self.blocks = list(map(slice, self.ties[self.groups].tolist(), ends.tolist()))
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
            if not hasattr(last, "places"):
                last.places = np.empty(self.n)  # used again: new memory costs page faults
            last.counts, last.resample = counts, Resample(self, counts, last.places)
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
        cell, lower, upper = on_grid(self.confidence, self.correct > 0)
        starts = np.flatnonzero(np.diff(cell, prepend=-1))
        return cell[starts].astype(np.intp), starts, lower, upper

    @cached_property
    def squares(self) -> FloatVector:
        """Squared residuals."""
        return np.square(self.residual)


class Resample:
    """One resample: how often each sorted row was drawn, and what follows from it when asked.

    Args:
        rows: What every resample shares.
        counts: How often each row was drawn, in their own order, [n].
        places: Memory for `accuracy_by_coverage`, [n].
    """

    def __init__(self, rows: CountedRows, counts: Counts, places: FloatVector) -> None:
        self.rows, self.n = rows, rows.n
        self.drawn = counts[rows.order]
        self._places = places
        self._gaps: dict[tuple[int, str], tuple[FloatVector, NDArray[np.intp]]] = {}

    def sums(self, values: FloatVector, starts: NDArray[np.intp]) -> FloatVector:
        """Sums of values over the draws from the rows from each start to the next.

        Args:
            values: Of the sorted rows, [n].
            starts: Rows in rising order, the first of them 0.
        """
        found = np.zeros(len(starts))
        for block in self.rows.blocks:
            begin, end = np.searchsorted(starts, (block.start, block.stop))
            if begin == len(starts) or starts[begin] > block.start:
                begin -= 1
            local = np.maximum(starts[begin:end] - block.start, 0)
            found[begin:end] += np.add.reduceat(self.drawn[block] * values[block], local)
        return found

    def total(self, values: FloatVector) -> float:
        """Sum of values over all draws."""
        return drawn_sum(self.drawn, values, self.rows.blocks)

    def gaps(self, bins: int, binning: str) -> tuple[FloatVector, NDArray[np.intp]]:
        """Sum of the residuals in each bin, and the row at which it begins."""
        if (bins, binning) not in self._gaps:
            if binning == "width":
                starts = self.rows.bin_starts(bins)
            else:
                # The edge below is the confidence at a rank from below; all above are the next's.
                edges = self._row_at(self.n - 1 - mass_ranks(self.n, bins))
                groups = np.searchsorted(self.rows.ties, edges, side="right") - 1
                starts = np.unique(np.concatenate([[0], self.rows.ties[groups]]))
            self._gaps[bins, binning] = self.sums(self.rows.residual, starts), starts
        return self._gaps[bins, binning]

    @cached_property
    def right(self) -> int:
        """Draws of correct predictions."""
        return int(self.total(self.rows.correct))

    def _row_at(self, places: NDArray[np.int64]) -> NDArray[np.intp]:
        """The row whose draws are at each place, counted from 0, among the sorted draws."""
        starts, found = np.arange(0, self.n, FEW), []
        reached = np.cumsum(np.add.reduceat(self.drawn, starts, dtype=np.int64))
        for place, number in zip(places, reached.searchsorted(places, side="right"), strict=True):
            before = place - (reached[number - 1] if number else 0)
            up_to = np.cumsum(self.drawn[starts[number] :][:FEW], dtype=np.int64)
            found.append(starts[number] + up_to.searchsorted(before, side="right"))
        return np.array(found, dtype=np.intp)

    def answered_by(self, place: int) -> int:
        """Draws of all rows up to a place, of its own row all or, where it is cut, none."""
        (row,) = self._row_at(np.array([place]))
        before = int(self.drawn[:row].sum(dtype=np.int64))
        whole = before + int(self.drawn[row])
        return whole if place + 1 == whole else before

    @property
    def is_ranked(self) -> bool:
        """Whether `accuracy_by_coverage` and `summed` are there, and each row is its own group."""
        return not self.rows.tied and "accuracy_by_coverage" in self.__dict__

    def by_group(self) -> Iterator[tuple[FloatVector, FloatVector, FloatVector]]:
        """Of the groups of equal confidence of each block: draws, correct ones, draws so far."""
        rows, answered = self.rows, 0.0
        ends = np.append(rows.groups[1:], len(rows.ties))
        for block, first, end in zip(rows.blocks, rows.groups, ends, strict=True):
            size = self.drawn[block].astype(np.float64)
            right = size * rows.correct[block]
            if rows.tied:
                starts = rows.ties[first:end] - block.start
                size, right = np.add.reduceat(size, starts), np.add.reduceat(right, starts)
            so_far = np.cumsum(size)
            so_far += answered
            answered = float(so_far[-1])
            yield size, right, so_far

    @cached_property
    def accuracy_by_coverage(self) -> FloatVector:
        """As `cogcalib.metrics.selective` has it, [n]."""
        rows, at, summed, self.summed = self.rows, 0, 0.0, 0.0
        tied = self.by_group() if rows.tied else None
        for block in rows.blocks:
            if tied is None:
                expected = np.repeat(rows.correct[block], self.drawn[block])
            else:
                size, right, _ = next(tied)
                drawn = np.flatnonzero(size)
                size = size[drawn]
                expected = np.repeat(right[drawn] / size, size.astype(np.intp))
            if not len(expected):
                continue
            # In the order in which one sum over all would be made, so that it is the same.
            expected[0] += summed
            np.cumsum(expected, out=expected)
            summed = float(expected[-1])
            self.summed += float(expected.sum())
            end = at + len(expected)
            np.divide(expected, np.arange(at + 1, end + 1), out=self._places[at:end])
            at = end
        return self._places


def drawn_sum(counts: Counts, values: FloatVector, blocks: Sequence[slice]) -> float:
    """Sum of values over the draws of the rows of some blocks."""
    return float(sum(counts[each].astype(np.float64) @ values[each] for each in blocks))
