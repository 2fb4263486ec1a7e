"""Temperature scaling: one number that divides every logit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from cogcalib.records import write_json

KIND = "temperature_scaling"
BOUNDS = (0.05, 20.0)
CHUNK = 1 << 20  # logits worked on at once: the working memory is a few MB whatever the vocabulary
ABSENT = -1e30  # stands for -inf: exp gives 0, and unlike -inf so does its product with that 0

Logits = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


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
        if split != "calibration":
            raise ValueError(
                f"split must be 'calibration': a temperature is never tuned on {split!r}"
            )
        scores, targets = _check(logits, labels)
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
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: no valid JSON: {error}") from error
        kind = content.get("kind") if isinstance(content, dict) else None
        if kind != KIND:
            raise ValueError(f"{path}: kind must be {KIND!r}, got {kind!r}")
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
    for rows in _chunks(logits):
        shifted = logits[rows] - logits[rows].max(axis=1, keepdims=True)
        np.maximum(shifted, ABSENT, out=shifted)
        gold = shifted[np.arange(len(shifted)), labels[rows]]
        weight = np.exp(shifted * inverse_temperature)
        normaliser = weight.sum(axis=1, dtype=np.float64)
        weight *= shifted
        mean = weight.sum(axis=1, dtype=np.float64) / normaliser
        total += float((mean - gold).sum())
    return total / len(logits)


def _chunks(logits: Logits) -> Iterator[slice]:
    size = max(1, CHUNK // logits.shape[1])
    return (slice(start, start + size) for start in range(0, len(logits), size))


def _check(logits: ArrayLike, labels: ArrayLike) -> tuple[Logits, Labels]:
    scores, targets = np.asarray(logits), np.asarray(labels)
    if scores.ndim != 2 or scores.size == 0 or scores.dtype.kind not in "iuf":
        raise ValueError(
            f"logits must be numbers of shape [n, K], n and K at least 1, "
            f"got {scores.dtype} of shape {scores.shape}"
        )
    n, options = scores.shape
    if targets.shape != (n,) or targets.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be integers of shape [{n}], got {targets.dtype} of shape {targets.shape}"
        )
    outside = (targets < 0) | (targets >= options)
    if outside.any():
        row = int(np.argmax(outside))
        raise ValueError(f"labels must lie in 0..{options - 1}, got {targets[row]} at row {row}")
    if scores.dtype not in (np.float32, np.float64):
        scores = scores.astype(np.float32 if scores.dtype == np.float16 else np.float64)
    for rows in _chunks(scores):
        bad = ~(scores[rows] < np.inf).all(axis=1)
        if bad.any():
            raise ValueError(
                f"logits must be finite or -inf, got nan or +inf in row "
                f"{rows.start + int(np.argmax(bad))}"
            )
    absent = np.isneginf(scores[np.arange(n), targets])
    if absent.any():
        row = int(np.argmax(absent))
        raise ValueError(f"logits must be finite at the label, got -inf in row {row}")
    return scores, targets
