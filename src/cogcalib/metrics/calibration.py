"""Binned calibration: the reliability curve, and the ECE and MCE read off it.

Confidences and errors are fractions. Bins are closed on the right, (a, b]; the first also holds
0.0, so that 1.0 lies in the last of the equal-width bins and every prediction in exactly one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cogcalib.metrics._validate import (
    CHUNK,
    BoolVector,
    FloatVector,
    check_confidence,
    check_whole,
    prediction_chunks,
)

BINNINGS = ("width", "mass")

# Neighbouring predictions count into separate sets of bins, added up at the end. Confidences of
# language models crowd into the last bin; into a single sum, each addition waits for the one
# before.
LANES = 8
LANE = (np.arange(CHUNK) % LANES).astype(np.int32)

IndexVector = NDArray[np.int32] | NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class ReliabilityCurve:
    """Accuracy against confidence, bin by bin.

    Attributes:
        edges: Bin edges from 0 to 1, [bins + 1]; bin *b* is (edges[b], edges[b + 1]].
        confidence: Mean confidence in each bin, [bins]; nan where the bin is empty.
        accuracy: Share of correct predictions in each bin, [bins]; nan where the bin is empty.
        count: Number of predictions in each bin, [bins].
    """

    edges: FloatVector
    confidence: FloatVector
    accuracy: FloatVector
    count: NDArray[np.int64]

    @property
    def gap(self) -> FloatVector:
        """Absolute difference of accuracy and confidence in each bin, [bins]; 0 where empty."""
        return np.where(self.count > 0, np.abs(self.accuracy - self.confidence), 0.0)

    @property
    def ece(self) -> float:
        """`expected_calibration_error` of these bins, a fraction; to rounding the same."""
        return float((self.count * self.gap).sum() / self.count.sum())


def reliability_curve(
    confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15, binning: str = "width"
) -> ReliabilityCurve:
    """Mean confidence and accuracy in bins of confidence.

    Args:
        confidence: Confidence of each prediction, fraction, [n].
        correct: Whether each prediction is correct, bool or 0/1, [n].
        bins: Number of bins.
        binning: ``"width"``: edges at k / bins. ``"mass"``: the edge above bin k is the
            ceil(k n / bins)-th smallest confidence, so that bins hold equally many predictions
            (to within one) if no two confidences are equal. Equal confidences always share a bin,
            so the curve does not depend on the order of the predictions; where one value is that
            frequent, bins are larger than others or empty.

    Raises:
        ValueError: For malformed arrays, `bins` below 1, or another `binning`.
    """
    edges = _edges(confidence, bins, binning)
    bins = len(edges) - 1
    count, n_right, total = np.zeros(bins, np.int64), np.zeros(bins, np.int64), np.zeros(bins)
    for cells, confidences, corrects in _binned(confidence, correct, edges, binning):
        split = np.bincount(2 * cells + corrects, minlength=2 * LANES * bins)
        wrong, right = split.reshape(LANES, bins, 2).sum(axis=0).T
        count += wrong + right
        n_right += right
        total += _sum_by_bin(cells, confidences, bins)
    nans = np.full(bins, np.nan)
    return ReliabilityCurve(
        edges=edges,
        confidence=np.divide(total, count, out=nans.copy(), where=count > 0),
        accuracy=np.divide(n_right, count, out=nans.copy(), where=count > 0),
        count=count,
    )


def expected_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15, binning: str = "width"
) -> float:
    """Expected calibration error: mean gap between confidence and accuracy, weighted by bin size.

    ECE = sum_b (n_b / n) |acc_b - conf_b| (Naeini et al., AAAI 2015; Guo et al., ICML 2017),
    computed as 1/n sum_b |sum over i in b of (correct_i - confidence_i)|, which is the same.

    For finite n it is biased upwards: a perfectly calibrated model has an ECE of about
    0.3 sqrt(bins / n), not 0 (docs/metrics.md, noise floor).

    Args:
        confidence: Confidence of each prediction, fraction, [n].
        correct: Whether each prediction is correct, bool or 0/1, [n].
        bins: Number of bins.
        binning: ``"width"`` or ``"mass"``, as in `reliability_curve`.

    Returns:
        The error as a fraction in [0, 1].

    Raises:
        ValueError: For malformed arrays, `bins` below 1, or another `binning`.
    """
    edges = _edges(confidence, bins, binning)
    residual, n = np.zeros(len(edges) - 1), 0
    for cells, confidences, corrects in _binned(confidence, correct, edges, binning):
        residual += _sum_by_bin(cells, corrects - confidences, len(residual))
        n += len(confidences)
    return float(np.abs(residual).sum() / n)


def maximum_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15, binning: str = "width"
) -> float:
    """Maximum calibration error: the largest gap between confidence and accuracy of any bin.

    MCE = max_b |acc_b - conf_b| over the bins that are not empty (Naeini et al., AAAI 2015).
    Arguments, unit and errors as in `expected_calibration_error`.
    """
    return float(reliability_curve(confidence, correct, bins=bins, binning=binning).gap.max())


def ece_label(definition: str, n: int, *, bins: int = 15, binning: str = "width") -> str:
    """What must stand beside a printed ECE, MCE or reliability curve for the figure to mean much.

    Args:
        definition: Which confidence it was computed from, such as ``options``.
        n: Number of predictions.
        bins: Number of bins.
        binning: ``"width"`` or ``"mass"``, as in `reliability_curve`.

    Returns:
        Such as ``15 equal-width bins, confidence: options, n = 1,172``.

    Raises:
        ValueError: For `bins` or `n` below 1, or another `binning`.
    """
    bins, n = check_whole("bins", bins), check_whole("n", n)
    _check_binning(binning)
    noun = "bin" if bins == 1 else "bins"
    return f"{bins} equal-{binning} {noun}, confidence: {definition}, n = {n:,}"


def _check_binning(binning: str) -> None:
    if binning not in BINNINGS:
        raise ValueError(f"binning must be one of {BINNINGS}, got {binning!r}")


def _edges(confidence: ArrayLike, bins: int, binning: str) -> FloatVector:
    bins = check_whole("bins", bins)
    _check_binning(binning)
    if binning == "width":
        # A division, not linspace: k / bins is the float nearest to the edge, so that a literal
        # such as 0.6 with 15 bins equals its edge. linspace multiplies k * (1 / bins), which may
        # not.
        return np.arange(bins + 1) / bins
    confidences = check_confidence(confidence)
    ranks = mass_ranks(len(confidences), bins)
    inner = np.partition(confidences, np.unique(ranks))[ranks] if bins > 1 else np.empty(0)
    return np.concatenate([[0.0], inner, [1.0]])


def mass_ranks(n: int, bins: int) -> NDArray[np.int64]:
    """Rank, from 0, of the confidence at each inner edge of bins of equal mass, [bins - 1]."""
    return -(-np.arange(1, bins) * n // bins) - 1


def _binned(
    confidence: ArrayLike, correct: ArrayLike, edges: FloatVector, binning: str
) -> Iterator[tuple[IndexVector, FloatVector, BoolVector]]:
    """Cells, confidences and correctness, a chunk at a time; cell = lane * bins + bin."""
    bins = len(edges) - 1
    for confidences, corrects in prediction_chunks(confidence, correct):
        if binning == "width":
            cells = bin_index(confidences, bins)
        else:
            cells = np.searchsorted(edges[1:-1], confidences, side="left")
        cells += LANE[: len(cells)] * bins
        yield cells, confidences, corrects


def bin_index(confidences: FloatVector, bins: int) -> IndexVector:
    """The k with k / bins < confidence <= (k + 1) / bins, 0 for a confidence of 0, [n].

    No search: a confidence in bin k times `bins`, rounded down, is k or, at the upper edge or so
    close below it that the product rounds up, k + 1. One comparison with the edge itself tells
    which, so that the bins are exact whatever the rounding.
    """
    floor = confidences * bins
    np.trunc(floor, out=floor)
    index = floor.astype(np.int32)
    floor /= bins
    index -= confidences <= floor
    return np.maximum(index, 0, out=index)


def _sum_by_bin(cells: IndexVector, values: FloatVector, bins: int) -> FloatVector:
    sums = np.bincount(cells, weights=values, minlength=LANES * bins)
    return np.asarray(sums.reshape(LANES, bins).sum(axis=0))
