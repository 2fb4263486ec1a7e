"""Temperature scaling: one number that divides every logit."""

from __future__ import annotations

from math import exp, log
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from cogcalib.posthoc.calibrator import LogitCalibrator, flag
from cogcalib.posthoc.fit_inputs import CHUNK, Labels, Logits, as_scores, chunks

BOUNDS = (0.05, 20.0)
ABSENT = -1e30  # stands for -inf: exp gives 0, and unlike -inf so does its product with that 0


def _temperature(value: object) -> float:
    if not isinstance(value, float) or not 0.0 < value < float("inf"):
        raise ValueError(f"must be a positive number, got {value!r}")
    return value


class TemperatureScaling(LogitCalibrator):
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

    kind = "temperature_scaling"
    fitted_on = "a temperature"
    parts: ClassVar = {"temperature": _temperature, "at_bound": flag}

    temperature_: float
    at_bound_: bool

    def _fit(self, logits: Logits, labels: Labels) -> None:
        self.temperature_, self.at_bound_ = _best_temperature(logits, labels)

    def transform(self, logits: ArrayLike) -> Logits:
        """Logits divided by the temperature, of any shape; probabilities are their softmax.

        Raises:
            RuntimeError: If nothing was fitted or loaded yet.
            ValueError: If they are no numbers.
        """
        self._check_fitted()
        return np.asarray(as_scores(logits) / self.temperature_)


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
