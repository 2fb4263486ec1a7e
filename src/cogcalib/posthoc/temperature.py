"""Temperature scaling: one number that divides every logit."""

from __future__ import annotations

from math import exp, log
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from cogcalib.posthoc._validate import (
    CHUNK,
    Labels,
    Logits,
    check_logits,
    check_split,
    chunks,
    read_fitted,
)
from cogcalib.records import write_json

KIND = "temperature_scaling"
BOUNDS = (0.05, 20.0)
ABSENT = -1e30  # stands for -inf: exp gives 0, and unlike -inf so does its product with that 0


class TemperatureScaling:
    """Divide logits by the temperature that minimises the NLL on the calibration split.

        T* = argmin_T  1/n sum_i -log softmax(z_i / T)[y_i]

    (Platt 1999; Guo et al., ICML 2017). Accuracy is untouched: dividing by T > 0 keeps the arg max.
    The NLL is convex in 1/T, so T* is the root of its slope there, found by bracketing.

    T is kept within [0.05, 20]. Where every label is already the arg max, the NLL falls for ever as
    T falls and the lower bound is returned; where confidence does not help at all, the upper one.
    `at_bound_` tells. If the NLL does not depend on T (all logits of each row equal), T is 1.

    Attributes:
        temperature_: The fitted temperature; above 1 it lowers confidence.
        at_bound_: Whether a bound, not the data, fixed it.
    """

    temperature_: float
    at_bound_: bool

    def fit(
        self, logits: ArrayLike, labels: ArrayLike, *, split: str = "calibration"
    ) -> TemperatureScaling:
        """Fit the temperature.

        Args:
            logits: Logits or log-probabilities, [n, K]; -inf marks an option a row does not have.
            labels: Index of the right option of each row, int, [n].
            split: The split the rows come from. Only ``"calibration"`` is allowed: a temperature
                tuned on the split it is judged on proves nothing.

        Returns:
            This object.

        Raises:
            ValueError: If `split` is another, shapes do not match, logits are nan or +inf, a label
                is not an index of its row's options, or the label's logit is -inf.
        """
        check_split(split, "a temperature")
        scores, targets = check_logits(logits, labels)
        self.temperature_, self.at_bound_ = _best_temperature(scores, targets)
        return self

    def transform(self, logits: ArrayLike) -> Logits:
        """Logits divided by the temperature, of any shape; probabilities are their softmax.

        Raises:
            RuntimeError: If nothing was fitted or loaded yet.
        """
        return np.asarray(np.asarray(logits) / self._fitted())

    def save(self, path: Path | str) -> Path:
        """Write the temperature as JSON, atomically; raises RuntimeError if unfitted."""
        temperature = self._fitted()
        content = {"kind": KIND, "temperature": temperature, "at_bound": self.at_bound_}
        return write_json(path, content)

    @classmethod
    def load(cls, path: Path | str) -> TemperatureScaling:
        """Read back what `save` wrote.

        Raises:
            ValueError: If the file is no JSON, holds another kind of calibrator, or a temperature
                that is no positive number.
        """
        content = read_fitted(path, KIND)
        temperature, at_bound = content.get("temperature"), content.get("at_bound")
        if not isinstance(temperature, float) or not 0.0 < temperature < float("inf"):
            raise ValueError(f"{path}: temperature must be a positive number, got {temperature!r}")
        if not isinstance(at_bound, bool):
            raise ValueError(f"{path}: at_bound must be true or false, got {at_bound!r}")
        scaling = cls()
        scaling.temperature_, scaling.at_bound_ = temperature, at_bound
        return scaling

    def _fitted(self) -> float:
        if not hasattr(self, "temperature_"):
            raise RuntimeError("TemperatureScaling is not fitted: call fit or load first")
        return self.temperature_


def _best_temperature(logits: Logits, labels: Labels) -> tuple[float, bool]:
    """The temperature within `BOUNDS` that minimises the NLL, and whether it is a bound."""

    def slope(log_temperature: float) -> float:
        return _nll_slope(logits, labels, exp(-log_temperature))

    coldest, hottest = BOUNDS
    at_coldest, at_hottest = slope(log(coldest)), slope(log(hottest))
    if at_coldest <= 0.0 <= at_hottest:  # the slope rises with 1/T: it is zero throughout
        return 1.0, False
    if at_coldest <= 0.0:
        return coldest, True
    if at_hottest >= 0.0:
        return hottest, True
    return exp(float(brentq(slope, log(coldest), log(hottest), xtol=1e-10))), False


def _nll_slope(logits: Logits, labels: Labels, inverse_temperature: float) -> float:
    """Slope of the mean NLL in 1/T: mean_i (E_p[z_i] - z_i,y), p = softmax(z_i / T)."""
    total = 0.0
    for rows in chunks(logits, CHUNK):
        shifted = logits[rows] - logits[rows].max(axis=1, keepdims=True)
        np.maximum(shifted, ABSENT, out=shifted)
        gold = shifted[np.arange(len(shifted)), labels[rows]]
        weight = np.exp(shifted * inverse_temperature)
        normaliser = weight.sum(axis=1, dtype=np.float64)
        weight *= shifted
        mean = weight.sum(axis=1, dtype=np.float64) / normaliser
        total += float((mean - gold).sum())
    return total / len(logits)
