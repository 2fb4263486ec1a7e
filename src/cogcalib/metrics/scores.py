"""Scores of single predictions: how close confidence is to the truth, how well it ranks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cogcalib.metrics._validate import check_logprob, check_predictions


def accuracy(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Share of correct predictions; the confidence is checked and not used.

    Raises:
        ValueError: For malformed arrays.
    """
    return float(np.mean(check_predictions(confidence, correct)[1]))


def mean(values: ArrayLike) -> float:
    """The mean of values, such as NLLs; infinite where one is."""
    return float(np.asarray(values).mean())


def brier_score(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Top-label Brier score: mean squared distance of the confidence from being right or not.

    mean_i (c_i - y_i)^2 (Brier 1950, for the event "the prediction is correct"). In [0, 1]; it
    differs from the multi-class Brier score, which sums over all classes and reaches 2.

    Args:
        confidence: Confidence of each prediction, fraction, [n].
        correct: Whether each prediction is correct, bool or 0/1, [n].

    Raises:
        ValueError: For malformed arrays.
    """
    confidences, corrects = check_predictions(confidence, correct)
    return float(np.mean(np.square(confidences - corrects)))


def negative_log_likelihood(gold_logprob: ArrayLike) -> float:
    """Mean negative log-likelihood of the correct answers, nats.

    -mean_i log p_i(correct answer): the log score (Good 1952), over whatever set of answers the
    log-probabilities are normalised. Unlike the Brier score it has no upper bound.

    Args:
        gold_logprob: Log-probability of the correct answer of each example, nats, [n]; -inf where
            it was held impossible.

    Returns:
        A number of at least 0; infinity if one correct answer was held impossible.

    Raises:
        ValueError: Unless `gold_logprob` is one-dimensional, not empty, and nowhere above 0 or nan.
    """
    # Taken from 0, lest certainty come out as -0.0.
    return float(0.0 - np.mean(check_logprob("gold_logprob", gold_logprob)))


def auroc(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Area under the ROC curve of confidence as a detector of correct predictions.

    The Mann-Whitney statistic: the probability that a correct prediction carries more confidence
    than a wrong one, ties counting one half.

    Args:
        confidence: Confidence of each prediction, fraction, [n].
        correct: Whether each prediction is correct, bool or 0/1, [n].

    Returns:
        A fraction in [0, 1], 0.5 for an uninformative confidence; nan if all predictions are
        correct or all are wrong, where it is undefined.

    Raises:
        ValueError: For malformed arrays.
    """
    confidences, corrects = check_predictions(confidence, correct)
    right, wrong = np.sort(confidences[corrects]), np.sort(confidences[~corrects])
    if right.size == 0 or wrong.size == 0:
        return float("nan")
    below = int(np.searchsorted(wrong, right, side="left").sum())
    below_or_equal = int(np.searchsorted(wrong, right, side="right").sum())
    return (below + below_or_equal) / (2 * right.size * wrong.size)
