"""Metrics of many resamples at once, from how often each row was drawn.

Rows are sorted by confidence once (`cogcalib.metrics.counted_rows`). A resample is then a count for
each of them, so that no metric sorts or gathers rows, and each takes a few passes over the
counts of all resamples in place of some dozen small steps for each. Values agree with those of the
drawn rows to rounding: sums are added up in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cogcalib.metrics._validate import BoolVector, check_predictions
from cogcalib.metrics.calibration import expected_calibration_error, maximum_calibration_error
from cogcalib.metrics.counted_rows import CountedRows, Counts, Floats, Resamples
from cogcalib.metrics.scores import accuracy, auroc, brier_score, mean
from cogcalib.metrics.selective import (
    accuracy_at_coverage,
    answered_at,
    aurc,
    coverage_at_accuracy,
    selective_accuracy,
)
from cogcalib.metrics.smooth import CELLS, errors_of, smooth_calibration_error, spectrum_of

GRIDS = 64
"""Resamples whose grids of smooth ECE, of 4,096 cells each, are worked on at once."""


class CountedMetrics:
    """Those metrics that are known here, on any resamples of the same arrays.

    Args:
        metrics: Name -> metric, defined on the arrays.
        arrays: What all of them take, [n] each.

    Attributes:
        names: Of the metrics that are known; `on` leaves out the others.
    """

    def __init__(
        self, metrics: Mapping[str, Callable[..., float]], arrays: Sequence[NDArray[Any]]
    ) -> None:
        self._values = arrays[0]
        self._known: dict[str, Callable[[Resamples], Floats]] = {}
        self._means: list[str] = []
        for name, metric in metrics.items():
            plain, named = _unwrapped(metric)
            if plain is mean and len(arrays) == 1:
                self._means.append(name)
            elif plain in _COUNTED and len(arrays) == 2:
                self._known[name] = partial(_COUNTED[plain], **named)
        self.names = {*self._known, *self._means}
        self._rows = CountedRows(*check_predictions(*arrays)) if self._known else None

    def on(self, counts: Counts, correct: BoolVector | None = None) -> dict[str, Floats]:
        """Name -> the metric on each resample, [resamples]; arguments as of `Resamples`."""
        found = {name: _mean(counts, self._values) for name in self._means}
        if self._rows is not None:
            drawn = Resamples(self._rows, counts, correct)
            found |= {name: metric(drawn) for name, metric in self._known.items()}
        return found


def _unwrapped(metric: Callable[..., float]) -> tuple[Callable[..., float], dict[str, Any]]:
    """The function in a partial that fixes named arguments alone, and these."""
    if isinstance(metric, partial) and not metric.args:
        return metric.func, metric.keywords
    return metric, {}


def _mean(counts: Counts, values: NDArray[Any]) -> Floats:
    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    summed = (counts * np.where(finite, values, 0.0)).sum(axis=1)
    if not finite.all():
        others = values[~finite]
        summed += np.where(counts[:, ~finite] > 0, others, 0.0).sum(axis=1)
    return np.asarray(summed / len(values))


def _accuracy(drawn: Resamples) -> Floats:
    return np.asarray(drawn.right.sum(axis=1, dtype=np.int64) / drawn.n)


def _brier(drawn: Resamples) -> Floats:
    confidence = drawn.rows.confidence
    summed = np.einsum("rn,n->r", drawn.right, np.square(1.0 - confidence))
    summed += np.einsum("rn,n->r", drawn.drawn - drawn.right, np.square(confidence))
    return np.asarray(summed / drawn.n)


def _ece(drawn: Resamples, *, bins: int = 15, binning: str = "width") -> Floats:
    gaps, _ = drawn.gaps(bins, binning)
    return np.asarray(np.abs(gaps).sum(axis=1) / drawn.n)


def _mce(drawn: Resamples, *, bins: int = 15, binning: str = "width") -> Floats:
    gaps, size = drawn.gaps(bins, binning)
    return np.asarray((np.abs(gaps) / np.maximum(size, 1)).max(axis=1))


def _smooth(drawn: Resamples) -> Floats:
    cell, share = drawn.rows.grid
    found = np.empty(drawn.number)
    for start in range(0, drawn.number, GRIDS):
        below = -drawn.residual[start : start + GRIDS]
        above = below * share
        below -= above
        length = len(below) * CELLS
        cells = (cell + np.arange(len(below))[:, np.newaxis] * CELLS).ravel()
        mass: Floats = np.bincount(cells, below.ravel(), length).astype(np.float64, copy=False)
        mass[1:] += np.bincount(cells, above.ravel(), length)[:-1]
        mass /= drawn.n
        found[start : start + GRIDS] = errors_of(spectrum_of(mass.reshape(-1, CELLS)))
    return found


def _auroc(drawn: Resamples) -> Floats:
    right = drawn.answered_right
    all_right = right[:, -1]
    all_wrong = drawn.n - all_right
    # For correct draws in each group: wrong ones of higher confidence twice, of equal once.
    wrong = drawn.answered - right
    above = np.einsum("rg,rg->r", np.diff(right, axis=1), wrong[:, :-1] + wrong[:, 1:])
    twice = 2 * all_right * all_wrong - above
    with np.errstate(invalid="ignore"):  # undefined where all are correct or wrong
        return np.asarray(twice / (2 * all_right * all_wrong))


def _aurc(drawn: Resamples) -> Floats:
    # Where a tie of d with accuracy s follows a answers, r of them correct, the first a + j answers
    # have an expected accuracy of (r + j s) / (a + j); over j = 1..d that adds up to
    # s d + (r - s a) (1 / (a + 1) + ... + 1 / (a + d)).
    answered, right = drawn.answered, drawn.answered_right
    rest = right[:, :-1] - drawn.shares * answered[:, :-1]
    harmonic = np.diff(drawn.rows.harmonic.take(answered), axis=1)
    summed = right[:, -1] + np.einsum("rg,rg->r", rest, harmonic)
    return np.asarray(1.0 - summed / drawn.n)


def _accuracy_at_coverage(drawn: Resamples, *, coverage: float) -> Floats:
    wanted = answered_at(coverage, drawn.n)
    group = drawn.group_at(np.full((drawn.number, 1), wanted))
    answered, right, share = (
        np.take_along_axis(each, group, axis=1)[:, 0]
        for each in (drawn.answered, drawn.answered_right, drawn.shares)
    )
    return np.asarray((right + share * (wanted - answered)) / wanted)


def _selective_accuracy(drawn: Resamples, *, threshold: float) -> Floats:
    end = int(np.searchsorted(-drawn.rows.confidence, -threshold, side="right"))
    right = drawn.right[:, :end].sum(axis=1, dtype=np.int64)
    with np.errstate(invalid="ignore"):  # nobody is that confident
        return np.asarray(right / drawn.drawn[:, :end].sum(axis=1, dtype=np.int64))


def _coverage_at_accuracy(drawn: Resamples, *, accuracy: float) -> Floats:
    answered, right = drawn.answered[:, 1:], drawn.answered_right[:, 1:]
    with np.errstate(invalid="ignore"):  # nobody drawn so far: 0 of 0
        reached = right / answered >= accuracy
    last = reached.shape[1] - 1 - np.argmax(reached[:, ::-1], axis=1)
    found = np.take_along_axis(answered, last[:, np.newaxis], axis=1)[:, 0]
    return np.where(reached.any(axis=1), found / drawn.n, 0.0)


_COUNTED: Mapping[Callable[..., float], Callable[..., Floats]] = {
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
