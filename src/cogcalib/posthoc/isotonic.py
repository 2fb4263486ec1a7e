"""Isotonic calibration: the non-decreasing map from confidence to accuracy that fits best."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from cogcalib.posthoc.calibrator import ConfidenceCalibrator, numbers
from cogcalib.posthoc.fit_inputs import Fractions, Truths
from cogcalib.posthoc.isotonic_fit import isotonic_fit


class IsotonicCalibration(ConfidenceCalibrator):
    """Replace the confidence by the accuracy that a non-decreasing function gives it.

        c' = f(c),    f = argmin over non-decreasing f of sum_i (f(c_i) - correct_i)^2

    (Zadrozny and Elkan, KDD 2002; solved by pooling adjacent violators). Between the confidences
    fitted on f is linear, beyond them constant, as scikit-learn's
    ``IsotonicRegression(out_of_bounds="clip")``. It has as many parameters as the data have steps
    and wants some hundred examples; it may say exactly 0 or 1.

    It changes confidences only: answers and accuracy stay. Different confidences may become equal,
    never change places.

    Attributes:
        confidence_: Confidences where f bends, ascending, [k].
        accuracy_: f there, non-decreasing fractions, [k].
    """

    kind = "isotonic_calibration"
    fitted_on = "an isotonic map"
    parts: ClassVar = {"confidence": numbers, "accuracy": numbers}

    confidence_: Fractions
    accuracy_: Fractions

    def _fit(self, confidence: Fractions, correct: Truths) -> None:
        self.confidence_, accuracy = isotonic_fit(confidence, correct)
        self.accuracy_ = np.clip(accuracy, 0.0, 1.0)

    def _map(self, confidence: Fractions) -> Fractions:
        return np.asarray(np.interp(confidence, self.confidence_, self.accuracy_))

    def _problem(self) -> str:
        confidence, accuracy = self.confidence_, self.accuracy_
        ascending = (np.diff(confidence) > 0).all() and (np.diff(accuracy) >= 0).all()
        both = np.concatenate([confidence, accuracy])
        if len(confidence) == len(accuracy) and ascending and both.min() >= 0 and both.max() <= 1:
            return ""
        return (
            "confidence and accuracy must be as many ascending fractions, "
            f"got {confidence.tolist()} and {accuracy.tolist()}"
        )
