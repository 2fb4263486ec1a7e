"""``alpha="calibrated"``: every known example smoothed to the accuracy of its confidence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class AccuracyCurve:
    """Accuracy of answers given with a certain confidence, by the NLL of the answer.

    Smoothing a target over K tokens with an alpha of e asks for a confidence of
    ``1 - e (K - 1) / K``. Asking instead for the accuracy a that answers of this confidence reach
    on the calibration split takes

        e = (1 - a(NLL)) K / (K - 1)

    so that a confidence which is justified is left alone, and no alpha is to be chosen. a is the
    isotonic regression of being correct on the NLL of the model's *own* answer, which says nothing
    of the gold one (`cogcalib.training.calibration_pass` fits it). What the model knows it would
    answer itself: there the gold answer's NLL, which training has at hand, is that of its own.

    Attributes:
        nll: Where a bends, nats, ascending, at least one.
        accuracy: a there, fractions, never rising. Between them a is linear, beyond them constant.
    """

    nll: tuple[float, ...]
    accuracy: tuple[float, ...]

    def smoothing(self, nll: Tensor, n_options: Tensor | None = None) -> Tensor:
        """The alpha e of each unit, in [0, 1].

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
