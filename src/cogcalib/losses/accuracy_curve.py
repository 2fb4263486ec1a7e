"""``alpha="calibrated"``: every known example smoothed to the accuracy of its confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Smoothing(Protocol):
    """Gives each unit of a batch an alpha of its own."""

    def smoothing(
        self, nll: Tensor, n_options: Tensor | None = None, own: Tensor | None = None
    ) -> Tensor:
        """The alpha e of each unit, in [0, 1], ``[U]``.

        Args:
            nll: Of the gold answers, nats, ``[U]``.
            n_options: K of each unit, ``[U]``, at least 2; None: a whole vocabulary, whose 1 / K is
                taken for 0.
            own: NLLs of the model's own answers, nats, ``[U]``.
        """
        ...


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

    def smoothing(
        self, nll: Tensor, n_options: Tensor | None = None, own: Tensor | None = None
    ) -> Tensor:
        """The alpha e of each unit by the NLL of its gold answer, see `Smoothing`."""
        missing = 1 - interpolated(self.nll, self.accuracy, nll)
        if n_options is not None:
            missing = missing * n_options / (n_options - 1)
        return missing.clamp(0, 1).to(nll)


def interpolated(x: Sequence[float], y: Sequence[float], at: Tensor) -> Tensor:
    """y at some places, linear between those given and constant beyond them, in float64.

    Args:
        x: Where y is given, ascending, at least one.
        y: Its values there.
        at: The places, ``[U]``.
    """
    xs = torch.tensor(x, dtype=torch.float64, device=at.device)
    ys = torch.tensor(y, dtype=torch.float64, device=at.device)
    inside = at.double().clamp(x[0], x[-1])
    right = torch.searchsorted(xs, inside).clamp(min=min(1, len(xs) - 1))
    left = (right - 1).clamp(min=0)
    share = ((inside - xs[left]) / (xs[right] - xs[left])).nan_to_num(0.0)
    return ys[left] + share * (ys[right] - ys[left])
