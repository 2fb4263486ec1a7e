"""Temperature scaling: one number that divides every logit."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq, minimize_scalar

from cogcalib.posthoc.calibrator import LogitCalibrator, flag
from cogcalib.posthoc.fit_inputs import (
    CHUNK,
    Fractions,
    Labels,
    Logits,
    Truths,
    as_scores,
    check_outcomes,
    check_scores,
    check_target,
    chunks,
)

BOUNDS = (0.05, 20.0)
GRID = 25
"""Temperatures that a log loss is looked at before its lowest valley is searched."""
CERTAIN = -(2.0**-24)
"""Log of the largest confidence that a log loss can be taken of: one not quite 1."""
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

    `fit_confidence` fits it by the log loss of a confidence instead, where only that is judged, and
    `fit_distribution` to another model's probabilities, which takes no labels.

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

    def fit_confidence(
        self,
        log_confidence: Callable[[float], ArrayLike],
        correct: ArrayLike,
        *,
        split: str = "calibration",
    ) -> Self:
        """Fit the temperature under which a confidence says best whether the answer is correct.

            T* = argmin_T  -1/n sum_i y_i log c_i(T) + (1 - y_i) log(1 - c_i(T))

        For confidences that are not the largest of a distribution over the possible answers: there
        the NLL of the correct one is minimised elsewhere. The log loss need not be convex in 1/T:
        the lowest of a grid of temperatures is refined. A confidence of exactly 1 counts as
        2^-24 less.

        Args:
            log_confidence: Temperature -> log of the confidence of each answer, [n].
            correct: Whether it is correct, [n].
            split: The split the rows come from; only ``"calibration"`` is allowed.

        Returns:
            This object.

        Raises:
            ValueError: If `split` is another, shapes do not match, or confidences are no fractions.
        """
        self._check_split(split)
        _, right = check_outcomes(np.exp(np.asarray(log_confidence(1.0))), correct)
        self.temperature_, self.at_bound_ = _best_for_confidence(log_confidence, right)
        return self

    def fit_distribution(self, logits: ArrayLike, target: ArrayLike) -> Self:
        """Fit the temperature under which the logits come closest to given probabilities.

            T* = argmin_T  -1/n sum_i sum_k q_ik log softmax(z_i / T)_k

        Of q the divergence KL(q || softmax(z / T)) differs by a constant. It is convex in 1/T, as
        the NLL is. No label is looked at, so that the rows may come from any split.

        Args:
            logits: Logits or log-probabilities, [n, K]; -inf marks an option a row does not have.
            target: q, fractions [n, K], 0 where a row has no such option; every row sums to 1.

        Returns:
            This object.

        Raises:
            ValueError: If shapes do not match, logits are nan or +inf, or `target` holds no
                distributions over the options that there are.
        """
        scores = check_scores(logits)
        self.temperature_, self.at_bound_ = _best_temperature(scores, check_target(target, scores))
        return self

    def transform(self, logits: ArrayLike) -> Logits:
        """Logits divided by the temperature, of any shape; probabilities are their softmax.

        Raises:
            RuntimeError: If nothing was fitted or loaded yet.
            ValueError: If they are no numbers.
        """
        self._check_fitted()
        return np.asarray(as_scores(logits) / self.temperature_)


def token_log_probabilities(logits: Logits, tokens: Labels, temperature: float) -> Fractions:
    """``log softmax(logits / T)`` of one token in each row, float64 [n]; logits are [n, V]."""
    found = np.empty(len(logits))
    for rows in chunks(logits, CHUNK):
        scaled = (logits[rows] - logits[rows].max(axis=1, keepdims=True)) / temperature
        own = scaled[np.arange(len(scaled)), tokens[rows]].astype(np.float64)
        found[rows] = own - np.log(np.exp(scaled).sum(axis=1, dtype=np.float64))
    return found


def _best_for_confidence(
    log_confidence: Callable[[float], ArrayLike], right: Truths
) -> tuple[float, bool]:
    """The temperature within `BOUNDS` of the least log loss, and whether it is a bound."""

    def loss(log_temperature: float) -> float:
        log_c = np.minimum(np.asarray(log_confidence(exp(log_temperature))), CERTAIN)
        return -float(np.where(right, log_c, np.log(-np.expm1(log_c))).mean())

    grid = np.linspace(log(BOUNDS[0]), log(BOUNDS[1]), GRID)
    losses = [loss(each) for each in grid]
    best = int(np.argmin(losses))
    around = grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)]
    found = minimize_scalar(loss, bounds=around, method="bounded", options={"xatol": 1e-7})
    if losses[best] <= found.fun and best in (0, GRID - 1):
        return BOUNDS[0 if best == 0 else 1], True
    return exp(float(found.x)), False


def _best_temperature(logits: Logits, labels: Labels | Fractions) -> tuple[float, bool]:
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


def _nll_slope(logits: Logits, labels: Labels | Fractions, inverse_temperature: float) -> float:
    """Slope of the mean NLL in 1/T: mean_i (E_p[z_i] - z_i,y), p = softmax(z_i / T).

    Labels are indices [n], or distributions [n, K], of which z_i,y is the mean.
    """
    total = 0.0
    for rows in chunks(logits, CHUNK):
        shifted = logits[rows] - logits[rows].max(axis=1, keepdims=True)
        np.maximum(shifted, ABSENT, out=shifted)
        if labels.ndim == 1:
            gold = shifted[np.arange(len(shifted)), labels[rows]]
        else:
            gold = (labels[rows] * shifted).sum(axis=1)
        weight = np.exp(shifted * inverse_temperature)
        normaliser = weight.sum(axis=1, dtype=np.float64)
        weight *= shifted
        mean = weight.sum(axis=1, dtype=np.float64) / normaliser
        total += float((mean - gold).sum())
    return total / len(logits)
