"""Binned calibration: the reliability curve, and the ECE and MCE read off it.

Confidences and errors are fractions. Bins are closed on the right, (a, b]; the first also holds
0.0, so that 1.0 lies in the last of the equal-width bins and every prediction in exactly one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cogcalib.metrics._validate import FloatVector, check_predictions, check_whole

BINNINGS = ("width", "mass")


@dataclass(frozen=True, slots=True, eq=False)
class ReliabilityCurve:
    """Accuracy against confidence, bin by bin.

    Attributes:
        edges: Bin edges from 0 to 1, [bins + 1]; bin *b* is (edges[b], edges[b + 1]].
        confidence: Mean confidence in each bin, [bins]; nan where the bin is empty.
        accuracy: Share of right predictions in each bin, [bins]; nan where the bin is empty.
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


def reliability_curve(
    confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15, binning: str = "width"
) -> ReliabilityCurve:
    """Mean confidence and accuracy in bins of confidence.

    Args:
        confidence: Confidence of each prediction, fraction, [n].
        correct: Whether each prediction is right, bool or 0/1, [n].
        bins: Number of bins.
        binning: ``"width"``: edges at k / bins. ``"mass"``: the edge above bin k is the
            ceil(k n / bins)-th smallest confidence, so that bins hold equally many predictions
            (to within one) if no two confidences are equal. Equal confidences always share a bin,
            so the curve does not depend on the order of the predictions; where one value is that
            frequent, bins are larger than others or empty.

    Raises:
        ValueError: For malformed arrays, `bins` below 1, or another `binning`.
    """
    bins = check_whole("bins", bins)
    if binning not in BINNINGS:
        raise ValueError(f"binning must be one of {BINNINGS}, got {binning!r}")
    confidences, corrects = check_predictions(confidence, correct)
    edges = _equal_mass_edges(confidences, bins) if binning == "mass" else _equal_width_edges(bins)

    index = np.searchsorted(edges[1:-1], confidences, side="left")
    split = np.bincount(2 * index + corrects, minlength=2 * bins).reshape(bins, 2)
    count, n_right = split.sum(axis=1), split[:, 1]
    total = np.bincount(index, weights=confidences, minlength=bins)
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

    ECE = sum_b (n_b / n) |acc_b - conf_b| (Naeini et al., AAAI 2015; Guo et al., ICML 2017).

    For finite n it is biased upwards: a perfectly calibrated model has an ECE of the order of
    sqrt(bins / n), not 0.

    Args:
        confidence: Confidence of each prediction, fraction, [n].
        correct: Whether each prediction is right, bool or 0/1, [n].
        bins: Number of bins.
        binning: ``"width"`` or ``"mass"``, as in `reliability_curve`.

    Returns:
        The error as a fraction in [0, 1].

    Raises:
        ValueError: For malformed arrays, `bins` below 1, or another `binning`.
    """
    curve = reliability_curve(confidence, correct, bins=bins, binning=binning)
    return float(np.dot(curve.count, curve.gap) / curve.count.sum())


def maximum_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15, binning: str = "width"
) -> float:
    """Maximum calibration error: the largest gap between confidence and accuracy of any bin.

    MCE = max_b |acc_b - conf_b| over the bins that are not empty (Naeini et al., AAAI 2015).
    Arguments, unit and errors as in `expected_calibration_error`.
    """
    return float(reliability_curve(confidence, correct, bins=bins, binning=binning).gap.max())


def _equal_width_edges(bins: int) -> FloatVector:
    # A division, not linspace: k / bins is the float nearest to the edge, so that a literal such
    # as 0.6 with 15 bins equals its edge. linspace accumulates k * (1 / bins), which may not.
    return np.arange(bins + 1) / bins


def _equal_mass_edges(confidences: FloatVector, bins: int) -> FloatVector:
    ranks = -(-np.arange(1, bins) * len(confidences) // bins) - 1
    inner = np.partition(confidences, np.unique(ranks))[ranks] if bins > 1 else np.empty(0)
    return np.concatenate([[0.0], inner, [1.0]])
