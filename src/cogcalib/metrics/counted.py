"""Metrics of a resample, from how often each row was drawn.

Rows are sorted by confidence once (`cogcalib.metrics.counted_rows`). A resample is then a count for
each of them, so that no metric sorts or gathers its own. `aurc`, `auroc`, `accuracy_at_coverage`,
`coverage_at_accuracy`, `selective_accuracy` and the accuracy come out to the bit as from the drawn
rows. The others, sums of fractions, are added up in another order and agree to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cogcalib.metrics._validate import FloatVector, check_predictions
from cogcalib.metrics.calibration import expected_calibration_error, maximum_calibration_error
from cogcalib.metrics.counted_rows import (
    BLOCK,
    CountedRows,
    Counts,
    OnCounts,
    Resample,
    drawn_sum,
)
from cogcalib.metrics.drawn_rows import unwrapped
from cogcalib.metrics.scores import accuracy, auroc, brier_score, mean
from cogcalib.metrics.selective import (
    accuracy_at_coverage,
    answered_at,
    aurc,
    coverage_at_accuracy,
    selective_accuracy,
)
from cogcalib.metrics.smooth import CELLS, errors_of, smooth_calibration_error, spectrum_of


def counted_metrics(
    metrics: Mapping[str, Callable[..., float]], arrays: Sequence[NDArray[np.generic]]
) -> dict[str, OnCounts]:
    """Those of the metrics that are known here, as functions of how often each row was drawn, [n].

    Args:
        metrics: Name -> function of all the arrays, on which it is defined.
        arrays: What they take, [n] each.
    """
    found: dict[str, OnCounts] = {}
    rows = None
    for name, metric in metrics.items():
        plain, named = unwrapped(metric)
        if plain is mean and len(arrays) == 1:
            found[name] = _mean_of(np.asarray(arrays[0], np.float64))
        elif plain in _COUNTED and len(arrays) == 2:
            rows = rows or CountedRows(*check_predictions(*arrays))
            found[name] = rows.metric(_COUNTED[plain], named)
    return found


def _accuracy(drawn: Resample) -> float:
    return float(drawn.right / drawn.n)


def _brier(drawn: Resample) -> float:
    return drawn.total(drawn.rows.squares) / drawn.n


def _ece(drawn: Resample, *, bins: int = 15, binning: str = "width") -> float:
    gaps, _ = drawn.gaps(bins, binning)
    return float(np.abs(gaps).sum() / drawn.n)


def _mce(drawn: Resample, *, bins: int = 15, binning: str = "width") -> float:
    gaps, starts = drawn.gaps(bins, binning)
    size = np.add.reduceat(drawn.drawn, starts, dtype=np.int64)
    return float((np.abs(gaps[size > 0]) / size[size > 0]).max())


def _smooth(drawn: Resample) -> float:
    cells, starts, lower, upper = drawn.rows.grid
    mass = np.zeros(CELLS)
    mass[cells] = drawn.sums(lower, starts)
    mass[cells + 1] += drawn.sums(upper, starts)
    return float(errors_of(spectrum_of(mass / drawn.n)[np.newaxis])[0])


def _auroc(drawn: Resample) -> float:
    right = drawn.right
    wrong = drawn.n - right
    if right == 0 or wrong == 0:
        return float("nan")
    # Twice the Mann-Whitney statistic, from the ranks of correct predictions; whole numbers all.
    if drawn.is_ranked:
        twice_ranks = 2 * int(drawn.summed)
    else:
        twice_ranks = (2 * drawn.n + 1) * right
        for size, of_right, answered in drawn.by_group():
            twice_ranks += int(of_right @ size) - 2 * int(of_right @ answered)
    return (twice_ranks - right * (right + 1)) / (2 * right * wrong)


def _aurc(drawn: Resample) -> float:
    return float(1.0 - np.mean(drawn.accuracy_by_coverage))


def _accuracy_at_coverage(drawn: Resample, *, coverage: float) -> float:
    return float(drawn.accuracy_by_coverage[answered_at(coverage, drawn.n) - 1])


def _selective_accuracy(drawn: Resample, *, threshold: float) -> float:
    end = int(np.searchsorted(-drawn.rows.confidence, -threshold, side="right"))
    answered = int(drawn.drawn[:end].sum(dtype=np.int64))
    if not answered:
        return float("nan")
    blocks = [slice(start, min(start + BLOCK, end)) for start in range(0, end, BLOCK)]
    return drawn_sum(drawn.drawn, drawn.rows.correct, blocks) / answered


def _coverage_at_accuracy(drawn: Resample, *, accuracy: float) -> float:
    if drawn.is_ranked:
        places = np.flatnonzero(drawn.accuracy_by_coverage >= accuracy)
        # Draws of one row are a tie, which is answered whole or not at all.
        return drawn.answered_by(int(places[-1])) / drawn.n if places.size else 0.0
    found, right = 0.0, 0.0
    for _, of_right, answered in drawn.by_group():
        summed = np.cumsum(of_right)
        summed += right
        right = float(summed[-1])
        with np.errstate(invalid="ignore"):  # nobody drawn so far: 0 of 0
            reached = np.flatnonzero(summed / answered >= accuracy)
        if reached.size:
            found = float(answered[reached[-1]])
    return found / drawn.n


def _mean_of(values: FloatVector) -> OnCounts:
    finite = np.isfinite(values)
    if finite.all():
        blocks = [slice(start, start + BLOCK) for start in range(0, len(values), BLOCK)]
        return lambda counts: drawn_sum(counts, values, blocks) / len(values)
    rows, others = np.flatnonzero(finite), np.flatnonzero(~finite)

    def mean_of(counts: Counts) -> float:
        drawn = others[counts[others] > 0]
        rest = float(counts[rows].astype(np.float64) @ values[rows])
        return (rest + float(values[drawn].sum())) / len(values)

    return mean_of


_COUNTED: dict[Callable[..., float], Callable[..., float]] = {
    accuracy: _accuracy,
    accuracy_at_coverage: _accuracy_at_coverage,
    aurc: _aurc,
    auroc: _auroc,
    coverage_at_accuracy: _coverage_at_accuracy,
    selective_accuracy: _selective_accuracy,
    brier_score: _brier,
    expected_calibration_error: _ece,
    maximum_calibration_error: _mce,
    smooth_calibration_error: _smooth,
}
