"""Vector scaling: a weight and a bias for each option's logit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from cogcalib.posthoc._validate import (
    Labels,
    Logits,
    check_logits,
    check_scores,
    check_split,
    read_fitted,
    read_numbers,
)
from cogcalib.records import write_json

KIND = "vector_scaling"
BOUND = 20.0


class VectorScaling:
    """Weigh and shift each option's logit so that the NLL on the calibration split is least.

        z'_k = w_k z_k + b_k,    (w, b) = argmin -1/n sum_i log softmax(z'_i)[y_i]

    (Guo et al., ICML 2017). The NLL is convex in both; they are found by L-BFGS from w = 1, b = 0.
    Each is kept within [-20, 20], where the NLL would fall for ever, as for an option that is never
    the answer; `at_bound_` tells. The biases, which count only up to a constant, have mean 0.

    It is meant for the options of a question: K weights belong to K positions in which an option
    can stand. It may change the arg max, and with it answers and accuracy: it corrects, for
    instance, a preference for the first letter. Since the weights differ, adding a constant to a
    row changes what comes out: logits and log-probabilities fit differently, so give `transform`
    what `fit` was given.

    Attributes:
        weight_: w, [K].
        bias_: b, [K].
        at_bound_: Whether a bound, not the data, fixed one of them.
    """

    weight_: NDArray[np.float64]
    bias_: NDArray[np.float64]
    at_bound_: bool

    def fit(
        self, logits: ArrayLike, labels: ArrayLike, *, split: str = "calibration"
    ) -> VectorScaling:
        """Fit weights and biases.

        Args:
            logits: Logits or log-probabilities of the options, [n, K]; -inf marks an option that a
                row does not have.
            labels: Index of the right option of each row, int, [n].
            split: The split the rows come from; only ``"calibration"`` is allowed.

        Returns:
            This object.

        Raises:
            ValueError: As `TemperatureScaling.fit`.
        """
        check_split(split, "vector scaling")
        scores, targets = check_logits(logits, labels)
        scores = scores.astype(np.float64)
        options = scores.shape[1]
        found = minimize(
            _nll,
            np.concatenate([np.ones(options), np.zeros(options)]),
            args=(scores, targets),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-BOUND, BOUND)] * (2 * options),
            options={"maxiter": 5000, "maxfun": 20_000, "ftol": 1e-15, "gtol": 1e-9},
        )
        self.weight_, bias = found.x[:options], found.x[options:]
        self.bias_ = bias - bias.mean()
        self.at_bound_ = bool((np.abs(found.x) >= BOUND).any())
        return self

    def transform(self, logits: ArrayLike) -> Logits:
        """Scaled logits, [n, K]; probabilities are their softmax. What is -inf stays so.

        Raises:
            RuntimeError: If nothing was fitted or loaded yet.
            ValueError: If there are not as many options as were fitted on, or logits are nan or
                +inf.
        """
        self._check_fitted()
        scores = check_scores(logits)
        if scores.shape[1] != len(self.weight_):
            raise ValueError(
                f"logits must have {len(self.weight_)} options, as those fitted on, "
                f"got {scores.shape[1]}"
            )
        return _scaled(scores.astype(np.float64), self.weight_, self.bias_)

    def save(self, path: Path | str) -> Path:
        """Write weights and biases as JSON, atomically; raises RuntimeError if unfitted."""
        self._check_fitted()
        content = {
            "kind": KIND,
            "weight": self.weight_.tolist(),
            "bias": self.bias_.tolist(),
            "at_bound": self.at_bound_,
        }
        return write_json(path, content)

    @classmethod
    def load(cls, path: Path | str) -> VectorScaling:
        """Read back what `save` wrote.

        Raises:
            ValueError: If the file is no JSON, holds another kind of calibrator, or anything but as
                many weights as biases.
        """
        content = read_fitted(path, KIND)
        weight, bias = (read_numbers(content, name, path) for name in ("weight", "bias"))
        at_bound = content.get("at_bound")
        if len(weight) != len(bias):
            raise ValueError(f"{path}: bias must be {len(weight)} numbers, got {len(bias)}")
        if not isinstance(at_bound, bool):
            raise ValueError(f"{path}: at_bound must be true or false, got {at_bound!r}")
        scaling = cls()
        scaling.weight_, scaling.bias_, scaling.at_bound_ = weight, bias, at_bound
        return scaling

    def _check_fitted(self) -> None:
        if not hasattr(self, "weight_"):
            raise RuntimeError("VectorScaling is not fitted: call fit or load first")


def _scaled(
    logits: Logits, weight: NDArray[np.float64], bias: NDArray[np.float64]
) -> NDArray[np.float64]:
    absent = np.isneginf(logits)
    scaled = np.where(absent, 0.0, logits) * weight + bias
    return np.where(absent, -np.inf, scaled)


def _nll(
    parameters: NDArray[np.float64], logits: Logits, labels: Labels
) -> tuple[float, NDArray[np.float64]]:
    """Mean NLL and its gradient in weights and biases."""
    n, options = logits.shape
    log_p = log_softmax(_scaled(logits, parameters[:options], parameters[options:]), axis=1)
    rows = np.arange(n)
    error = np.exp(log_p)
    error[rows, labels] -= 1.0
    present = np.where(np.isneginf(logits), 0.0, logits)
    slope = np.concatenate([(error * present).mean(axis=0), error.mean(axis=0)])
    return float(-log_p[rows, labels].mean()), slope
