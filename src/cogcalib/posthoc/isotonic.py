"""Isotonic calibration: the non-decreasing map from confidence to accuracy that fits best."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from cogcalib.posthoc._validate import (
    Fractions,
    check_confidence,
    check_outcomes,
    check_split,
    read_fitted,
    read_numbers,
)
from cogcalib.posthoc.isotonic_fit import isotonic_fit
from cogcalib.records import write_json

KIND = "isotonic_calibration"


class IsotonicCalibration:
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

    confidence_: Fractions
    accuracy_: Fractions

    def fit(
        self, confidence: ArrayLike, correct: ArrayLike, *, split: str = "calibration"
    ) -> IsotonicCalibration:
        """Fit the map.

        Args:
            confidence: Confidence of each answer, fractions [n].
            correct: Whether it was right, [n].
            split: The split the rows come from; only ``"calibration"`` is allowed.

        Returns:
            This object.

        Raises:
            ValueError: If `split` is another, shapes do not match, or values are out of range.
        """
        check_split(split, "an isotonic map")
        points, fitted = isotonic_fit(*check_outcomes(confidence, correct), increasing=True)
        self.confidence_, self.accuracy_ = points, np.clip(fitted, 0.0, 1.0)
        return self

    def transform(self, confidence: ArrayLike) -> Fractions:
        """Calibrated confidences, float64, same shape.

        Raises:
            RuntimeError: If nothing was fitted or loaded yet.
            ValueError: If confidences are no fractions.
        """
        self._check_fitted()
        values = check_confidence(confidence)
        return np.asarray(np.interp(values, self.confidence_, self.accuracy_))

    def save(self, path: Path | str) -> Path:
        """Write the points as JSON, atomically; raises RuntimeError if unfitted."""
        self._check_fitted()
        content = {
            "kind": KIND,
            "confidence": self.confidence_.tolist(),
            "accuracy": self.accuracy_.tolist(),
        }
        return write_json(path, content)

    @classmethod
    def load(cls, path: Path | str) -> IsotonicCalibration:
        """Read back what `save` wrote.

        Raises:
            ValueError: If the file is no JSON, holds another kind of calibrator, or points that
                are no ascending fractions.
        """
        content = read_fitted(path, KIND)
        confidence = read_numbers(content, "confidence", path)
        accuracy = read_numbers(content, "accuracy", path)
        ascending = (np.diff(confidence) > 0).all() and (np.diff(accuracy) >= 0).all()
        both = np.concatenate([confidence, accuracy])
        if len(confidence) != len(accuracy) or not ascending or both.min() < 0 or both.max() > 1:
            raise ValueError(
                f"{path}: confidence and accuracy must be as many ascending fractions, "
                f"got {confidence.tolist()} and {accuracy.tolist()}"
            )
        calibration = cls()
        calibration.confidence_, calibration.accuracy_ = confidence, accuracy
        return calibration

    def _check_fitted(self) -> None:
        if not hasattr(self, "confidence_"):
            raise RuntimeError("IsotonicCalibration is not fitted: call fit or load first")
