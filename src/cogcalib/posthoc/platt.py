"""Platt scaling: a sigmoid from the confidence of an answer to the chance that it is correct."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from cogcalib.posthoc.calibrator import ConfidenceCalibrator, number
from cogcalib.posthoc.fit_inputs import Fractions, Truths

EDGE = 2.0**-24
"""Confidences are taken at least this far from 0 and 1: the distance from 1 to the next number of
single precision, in which models say 1 and mean anything above."""
STEPS = 100


class PlattScaling(ConfidenceCalibrator):
    """Fit a logistic regression from the logit of the confidence to the answer's correctness.

        c' = sigmoid(a logit(c) + b),    (a, b) = argmin sum_i log loss(t_i, c'_i)

    (Platt 1999). The targets t are Platt's: (n+ + 1) / (n+ + 2) for a correct answer and
    1 / (n- + 2) for a wrong one, as in scikit-learn's ``CalibratedClassifierCV(method="sigmoid")``.
    Hence there is one finite minimum, also where every answer is correct or the confidence
    separates correct from wrong answers perfectly. Confidences of exactly 0 and 1 count as `EDGE`
    off.

    It changes confidences only: answers and accuracy stay. Where a > 0, the rule, the order of the
    answers by confidence stays too, and so do AUROC and the like.

    Attributes:
        slope_: a; below 1 it brings confidences together. If all confidences are equal, which
            leaves it open, it is 1.
        intercept_: b.
    """

    kind = "platt_scaling"
    fitted_on = "a sigmoid"
    parts: ClassVar = {"slope": number, "intercept": number}

    slope_: float
    intercept_: float

    def _fit(self, confidence: Fractions, correct: Truths) -> None:
        right, n = int(correct.sum()), len(correct)
        target = np.where(correct, (right + 1) / (right + 2), 1 / (n - right + 2))
        scores = _logit(confidence)
        if np.ptp(scores) == 0.0:
            self.slope_, self.intercept_ = 1.0, float(logit(target.mean()) - scores[0])
        else:
            self.slope_, self.intercept_ = _best_line(scores, target)

    def _map(self, confidence: Fractions) -> Fractions:
        return np.asarray(expit(self.slope_ * _logit(confidence) + self.intercept_))


def _logit(confidence: Fractions) -> NDArray[np.float64]:
    return np.asarray(logit(np.clip(confidence, EDGE, 1.0 - EDGE)))


def _best_line(scores: NDArray[np.float64], target: Fractions) -> tuple[float, float]:
    """Slope and intercept that minimise the log loss, by Newton's method with halved steps.

    The scores are standardised meanwhile, so that the Hessian stays well conditioned.
    """
    mean, spread = scores.mean(), scores.std()
    design = np.stack([(scores - mean) / spread, np.ones_like(scores)], axis=1)

    def loss(line: NDArray[np.float64]) -> float:
        x = design @ line
        return float((np.logaddexp(0.0, x) - target * x).mean())

    line = np.zeros(2)
    value = loss(line)
    for _ in range(STEPS):
        p = expit(design @ line)
        slope = design.T @ (p - target) / len(target)
        if np.abs(slope).max() < 1e-13:
            break
        curvature = (design * (p * (1 - p))[:, None]).T @ design / len(target)
        step = np.linalg.solve(curvature, slope)
        while (moved := loss(line - step)) > value and np.abs(step).max() > 1e-12:
            step = step / 2
        line, value = line - step, moved
    return float(line[0] / spread), float(line[1] - line[0] * mean / spread)
