"""Selective prediction: what is gained by answering only where the model is confident.

Predictions of equal confidence come in no order of their own. Both metrics are the expectation
over a random order of such ties, and so do not depend on the order of the rows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from cogcalib.metrics._validate import FloatVector, check_open_fraction, check_predictions


def aurc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Area under the risk-coverage curve: mean error rate over all coverages 1/n, 2/n, ..., 1.

    AURC = 1/n sum_k risk_k, risk_k the error rate of the k most confident predictions (Geifman,
    Uziel & El-Yaniv, ICLR 2019). Lower is better; a constant confidence gives the error rate.

    Args:
        confidence: Confidence of each prediction, fraction, [n].
        correct: Whether each prediction is right, bool or 0/1, [n].

    Returns:
        A fraction in [0, 1].

    Raises:
        ValueError: For malformed arrays.
    """
    return float(1.0 - np.mean(_accuracy_by_coverage(confidence, correct)))


def accuracy_at_coverage(confidence: ArrayLike, correct: ArrayLike, coverage: float) -> float:
    """Accuracy of the most confident share of the predictions.

    Args:
        confidence: Confidence of each prediction, fraction, [n].
        correct: Whether each prediction is right, bool or 0/1, [n].
        coverage: Share of predictions to answer, fraction in (0, 1]; ceil(coverage n) are.

    Returns:
        A fraction in [0, 1].

    Raises:
        ValueError: For malformed arrays or a `coverage` outside (0, 1].
    """
    coverage = check_open_fraction("coverage", coverage, one_allowed=True)
    accuracy = _accuracy_by_coverage(confidence, correct)
    # Rounded first: 0.07 * 100 is 7.000000000000001 in floating point, yet means 7.
    answered = max(1, math.ceil(round(coverage * len(accuracy), 9)))
    return float(accuracy[answered - 1])


def _accuracy_by_coverage(confidence: ArrayLike, correct: ArrayLike) -> FloatVector:
    """Expected accuracy of the k most confident predictions for k = 1..n, [n]."""
    confidences, corrects = check_predictions(confidence, correct)
    order = np.argsort(-confidences)
    ranked, right = confidences[order], corrects[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    sizes = np.diff(np.r_[starts, len(ranked)])
    # In a random order every place within a tie is right with the tie's share of right ones.
    share_right = np.add.reduceat(right, starts, dtype=np.float64) / sizes
    return np.cumsum(np.repeat(share_right, sizes)) / np.arange(1, len(ranked) + 1)
