"""``alpha="calibrated"``: every known example smoothed to the accuracy of its confidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from torch import Tensor


@dataclass(frozen=True, slots=True)
class AccuracyCurve:
    """How often answers given with a certain confidence are right, by the NLL of the answer.

    Smoothing a target over K tokens with a strength e asks for a confidence of
    ``1 - e (K - 1) / K``. Asking instead for the accuracy a that answers of this confidence reach
    on the calibration split takes

        e = (1 - a(NLL)) K / (K - 1)

    so that a confidence which is justified is left alone, and no strength is to be chosen. a is the
    isotonic regression of being right on the NLL of the model's *own* answer, which says nothing of
    the gold one. What the model knows it would answer itself: there the gold answer's NLL, which
    training has at hand, is that of its own.

    Attributes:
        nll: Where a bends, nats, ascending, at least one.
        accuracy: a there, fractions, never rising. Between them a is linear, beyond them constant.
    """

    nll: tuple[float, ...]
    accuracy: tuple[float, ...]

    @classmethod
    def fit(cls, nll: NDArray[np.float64], right: NDArray[np.float64]) -> AccuracyCurve:
        """Fit the curve.

        Args:
            nll: Of the model's own answers, nats, ``[n]``, n >= 1.
            right: How far they were right, fractions, ``[n]``.
        """
        places, inverse, counts = np.unique(nll, return_inverse=True, return_counts=True)
        mean = np.bincount(inverse, weights=right) / counts
        fitted = isotonic_regression(mean, weights=counts, increasing=False).x
        level = np.concatenate([[False], fitted[1:] == fitted[:-1], [False]])
        bends = ~(level[1:] & level[:-1])  # inside of a level stretch there is nothing to know
        return cls(tuple(places[bends].tolist()), tuple(fitted[bends].tolist()))

    def smoothing(self, nll: Tensor, n_options: Tensor | None = None) -> Tensor:
        """The strength e of each unit, in [0, 1].

        Args:
            nll: Nats, ``[U]``.
            n_options: K of each unit, ``[U]``, at least 2; None: a whole vocabulary, whose
                K / (K - 1) is taken for 1.
        """
        x = torch.tensor(self.nll, dtype=torch.float64, device=nll.device)
        y = torch.tensor(self.accuracy, dtype=torch.float64, device=nll.device)
        at = nll.double().clamp(self.nll[0], self.nll[-1])
        right = torch.searchsorted(x, at).clamp(min=min(1, len(x) - 1))
        left = (right - 1).clamp(min=0)
        share = ((at - x[left]) / (x[right] - x[left])).nan_to_num(0.0)
        missing = 1 - (y[left] + share * (y[right] - y[left]))
        if n_options is not None:
            missing = missing * n_options / (n_options - 1)
        return missing.clamp(0, 1).to(nll)
