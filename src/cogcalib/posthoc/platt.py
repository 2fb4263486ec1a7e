"""Platt scaling: a sigmoid from the confidence of an answer to the chance that it is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from cogcalib.posthoc._validate import (
    Fractions,
    check_confidence,
    check_outcomes,
    check_split,
    read_fitted,
    read_number,
)
from cogcalib.records import write_json

KIND = "platt_scaling"
EDGE = 2.0**-24
"""Confidences are taken at least this far from 0 and 1: the distance from 1 to the next number of
single precision, in which models say 1 and mean anything above."""
STEPS = 100


class PlattScaling:
    """Fit a logistic regression from the logit of the confidence to the answer's correctness.

        c' = sigmoid(a logit(c) + b),    (a, b) = argmin sum_i log loss(t_i, c'_i)

    (Platt 1999). The targets t are Platt's: (n+ + 1) / (n+ + 2) for a right answer and
    1 / (n- + 2) for a wrong one, as in scikit-learn's ``CalibratedClassifierCV(method="sigmoid")``.
    Hence there is one finite minimum, also where every answer is right or the confidence separates
    right from wrong without a miss. Confidences of exactly 0 and 1 count as `EDGE` off.

    It changes confidences only: answers and accuracy stay. Where a > 0, the rule, the order of the
    answers by confidence stays too, and so do AUROC and the like.

    Attributes:
        slope_: a; below 1 it brings confidences together. If all confidences are equal, which
            leaves it open, it is 1.
        intercept_: b.
    """

    slope_: float
    intercept_: float

    def fit(
        self, confidence: ArrayLike, correct: ArrayLike, *, split: str = "calibration"
    ) -> PlattScaling:
        """Fit slope and intercept.

        Args:
            confidence: Confidence of each answer, fractions [n].
            correct: Whether it was right, [n].
            split: The split the rows come from; only ``"calibration"`` is allowed.

        Returns:
            This object.

        Raises:
            ValueError: If `split` is another, shapes do not match, or values are out of range.
        """
        check_split(split, "a sigmoid")
        values, right = check_outcomes(confidence, correct)
        n_right = int(right.sum())
        target = np.where(right, (n_right + 1) / (n_right + 2), 1 / (len(right) - n_right + 2))
        scores = _logit(values)
        if np.ptp(scores) == 0.0:
            self.slope_, self.intercept_ = 1.0, float(logit(target.mean()) - scores[0])
        else:
            self.slope_, self.intercept_ = _best_line(scores, target)
        return self

    def transform(self, confidence: ArrayLike) -> Fractions:
        """Calibrated confidences, float64, same shape.

        Raises:
            RuntimeError: If nothing was fitted or loaded yet.
            ValueError: If confidences are no fractions.
        """
        self._check_fitted()
        scores = _logit(check_confidence(confidence))
        return np.asarray(expit(self.slope_ * scores + self.intercept_))

    def save(self, path: Path | str) -> Path:
        """Write slope and intercept as JSON, atomically; raises RuntimeError if unfitted."""
        self._check_fitted()
        return write_json(path, {"kind": KIND, "slope": self.slope_, "intercept": self.intercept_})

    @classmethod
    def load(cls, path: Path | str) -> PlattScaling:
        """Read back what `save` wrote.

        Raises:
            ValueError: If the file is no JSON, holds another kind of calibrator, or no two numbers.
        """
        content = read_fitted(path, KIND)
        scaling = cls()
        scaling.slope_ = read_number(content, "slope", path)
        scaling.intercept_ = read_number(content, "intercept", path)
        return scaling

    def _check_fitted(self) -> None:
        if not hasattr(self, "slope_"):
            raise RuntimeError("PlattScaling is not fitted: call fit or load first")


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
