"""Vector scaling: a weight and a bias for each option's logit."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from cogcalib.posthoc.calibrator import LogitCalibrator, flag, numbers
from cogcalib.posthoc.fit_inputs import Labels, Logits, check_scores

BOUND = 20.0


class VectorScaling(LogitCalibrator):
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

    kind = "vector_scaling"
    fitted_on = "vector scaling"
    parts: ClassVar = {"weight": numbers, "bias": numbers, "at_bound": flag}

    weight_: NDArray[np.float64]
    bias_: NDArray[np.float64]
    at_bound_: bool

    def _fit(self, logits: Logits, labels: Labels) -> None:
        scores, options = logits.astype(np.float64), logits.shape[1]
        found = minimize(
            _nll,
            np.concatenate([np.ones(options), np.zeros(options)]),
            args=(scores, labels),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-BOUND, BOUND)] * (2 * options),
            options={"maxiter": 5000, "maxfun": 20_000, "ftol": 1e-15, "gtol": 1e-9},
        )
        self.weight_, bias = found.x[:options], found.x[options:]
        self.bias_ = bias - bias.mean()
        self.at_bound_ = bool((np.abs(found.x) >= BOUND).any())

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

    def _problem(self) -> str:
        weights, biases = len(self.weight_), len(self.bias_)
        return "" if weights == biases else f"bias must be {weights} numbers, got {biases}"


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
