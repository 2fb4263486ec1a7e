"""Selective prediction: what is gained by answering only where the model is confident.

Predictions of equal confidence come in no order of their own. `aurc` and `accuracy_at_coverage`
are the expectation over a random order of such ties; a threshold, as in `selective_accuracy` and
`coverage_at_accuracy`, takes all of a tie or nothing. So no metric depends on the order of the
rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cogcalib.metrics._validate import (
    BoolVector,
    FloatVector,
    check_open_fraction,
    check_predictions,
)

Counts = NDArray[np.int64]


def aurc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Area under the risk-coverage curve: mean error rate over all coverages 1/n, 2/n, ..., 1.

    AURC = 1/n sum_k risk_k, risk_k the error rate of the k most confident predictions (Geifman,
    Uziel & El-Yaniv, ICLR 2019). Lower is better; a constant confidence gives the error rate.

    Args:
        confidence: Confidence of each prediction, fraction, [n].
        correct: Whether each prediction is correct, bool or 0/1, [n].

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
        correct: Whether each prediction is correct, bool or 0/1, [n].
        coverage: Share of predictions to answer, fraction in (0, 1]; ceil(coverage n) are.

    Returns:
        A fraction in [0, 1].

    Raises:
        ValueError: For malformed arrays or a `coverage` outside (0, 1].
    """
    coverage = check_open_fraction("coverage", coverage, one_allowed=True)
    accuracy = _accuracy_by_coverage(confidence, correct)
    return float(accuracy[answered_at(coverage, len(accuracy)) - 1])


def selective_accuracy(confidence: ArrayLike, correct: ArrayLike, threshold: float) -> float:
    """Accuracy of the predictions with a confidence of at least `threshold`.

    One minus the selective risk of the selection function "confidence >= threshold" (El-Yaniv &
    Wiener, JMLR 2010; Geifman & El-Yaniv, NeurIPS 2017).

    Args:
        confidence: Confidence of each prediction, fraction, [n].
        correct: Whether each prediction is correct, bool or 0/1, [n].
        threshold: Least confidence at which to answer, fraction in [0, 1].

    Returns:
        A fraction in [0, 1]; nan if no prediction is that confident.

    Raises:
        ValueError: For malformed arrays or a `threshold` outside [0, 1].
    """
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"threshold must lie in [0, 1], got {threshold!r}")
    confidences, corrects = check_predictions(confidence, correct)
    answered = corrects[confidences >= threshold]
    return float(answered.mean()) if answered.size else float("nan")


def coverage_at_accuracy(confidence: ArrayLike, correct: ArrayLike, accuracy: float) -> float:
    """Largest share of predictions a threshold on confidence can answer at a wanted accuracy.

    max over t of the share with confidence >= t, among the t at which `selective_accuracy` is at
    least `accuracy`. The threshold is chosen on the predictions it is judged on, so that a share
    resting on few predictions is optimistic; its bootstrap interval shows how far it can be
    trusted.

    Args:
        confidence: Confidence of each prediction, fraction, [n].
        correct: Whether each prediction is correct, bool or 0/1, [n].
        accuracy: Least accuracy wanted of the answers, fraction in (0, 1].

    Returns:
        A fraction in [0, 1]; 0 if no threshold reaches the accuracy.

    Raises:
        ValueError: For malformed arrays or an `accuracy` outside (0, 1].
    """
    accuracy = check_open_fraction("accuracy", accuracy, one_allowed=True)
    right, starts, sizes = _ties(*check_predictions(confidence, correct))
    answered = starts + sizes
    # Whole numbers divided once, so that 9 of 10 is the same float as the 0.9 asked for.
    reached = np.flatnonzero(np.cumsum(right) / answered >= accuracy)
    return float(answered[reached[-1]] / answered[-1]) if reached.size else 0.0


def threshold_at_accuracy(confidence: ArrayLike, correct: ArrayLike, accuracy: float) -> float:
    """The threshold behind `coverage_at_accuracy`: the least confidence that is answered there.

    Args:
        confidence: Confidence of each prediction, fraction, [n].
        correct: Whether each prediction is correct, bool or 0/1, [n].
        accuracy: Least accuracy wanted of the answers, fraction in (0, 1].

    Returns:
        A fraction in [0, 1]; nan if no threshold reaches the accuracy.

    Raises:
        ValueError: As `coverage_at_accuracy`.
    """
    share = coverage_at_accuracy(confidence, correct, accuracy)
    confidences, _ = check_predictions(confidence, correct)
    answered = round(share * len(confidences))
    return float(np.sort(confidences)[-answered]) if answered else float("nan")


def risk_coverage_curve(
    confidence: ArrayLike, correct: ArrayLike, coverages: Sequence[float]
) -> list[float]:
    """The risk-coverage curve: error rate of the most confident share, at given coverages.

    At every k / n its mean is `aurc`; at 1 it is the error rate of all (El-Yaniv & Wiener, JMLR
    2010).

    Args:
        confidence: Confidence of each prediction, fraction, [n].
        correct: Whether each prediction is correct, bool or 0/1, [n].
        coverages: Shares of the predictions to answer, as in `accuracy_at_coverage`.

    Returns:
        For each coverage the error rate, a fraction in [0, 1].

    Raises:
        ValueError: As `accuracy_at_coverage`.
    """
    shares = [check_open_fraction("coverages", each, one_allowed=True) for each in coverages]
    accuracy = _accuracy_by_coverage(confidence, correct)
    return [float(1.0 - accuracy[answered_at(each, len(accuracy)) - 1]) for each in shares]


def answered_at(coverage: float, n: int) -> int:
    """How many of n predictions are answered at a coverage: ceil(coverage n), at least 1."""
    # Rounded first: 0.07 * 100 is 7.000000000000001 in floating point, yet means 7.
    return max(1, math.ceil(round(coverage * n, 9)))


def _accuracy_by_coverage(confidence: ArrayLike, correct: ArrayLike) -> FloatVector:
    """Expected accuracy of the k most confident predictions for k = 1..n, [n]."""
    right, _, sizes = _ties(*check_predictions(confidence, correct))
    # In a random order every place within a tie is correct with the tie's share of correct ones.
    expected = np.cumsum(np.repeat(right / sizes, sizes))
    return expected / np.arange(1, len(expected) + 1)


def _ties(confidences: FloatVector, corrects: BoolVector) -> tuple[Counts, Counts, Counts]:
    """Correct predictions, start and size of each group of equal confidence, highest first, [g]."""
    order = np.argsort(-confidences)
    ranked = confidences[order]
    # Not np.r_, which takes longer than the sort where a bootstrap asks for a thousand of these.
    begins = np.ones(len(ranked), dtype=bool)
    np.not_equal(ranked[1:], ranked[:-1], out=begins[1:])
    starts = np.flatnonzero(begins)
    right = np.add.reduceat(corrects[order], starts, dtype=np.int64)
    return right, starts, np.diff(starts, append=len(ranked))
