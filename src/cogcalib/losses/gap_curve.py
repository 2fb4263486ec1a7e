"""``alpha="gap"``: examples smoothed by what the model knows of them only from training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class GapCurve:
    """Accuracy at a confidence, on held-out and on training examples.

    Consider the training examples that the model answers with confidence c. It is right on a share
    q of them, and on a share a of held-out examples of the same confidence. Cross-entropy draws the
    mean probability of its own answer towards the mean target of that answer, which is q: where
    examples come again and are remembered, q > a, and training teaches a confidence that nothing
    held out justifies. Smoothing a share s of them with e over K tokens, of which it answers a
    share r of all correctly, makes the mean target

        q - e r + e s / K

    and this is a for ``e = (q - a) / (r - s / K)``:

    - **ungated**, all examples: s = 1, r = q, hence ``e = (q - a) / (q - 1 / K)``
    - **gated**, those that the model knows, which it answers correctly: s = r = q, hence
      ``e = (q - a) / (q (1 - 1 / K)) = (1 - a / q) K / (K - 1)``

    both clipped to [0, 1]. Examples that training has not seen have q = a and e = 0: there
    cross-entropy is calibrated by itself. With q = 1, all remembered, both are
    ``(1 - a) K / (K - 1)``, with which the target of the gold answer is a. Over a whole vocabulary,
    1 / K taken for 0, they are the same. At q <= 1 / K, ungated, there is nothing that smoothing
    could take away, and e = 0.

    Confidence is that of the model's own answer, right or wrong, as exp(-NLL) says it. Both curves
    are read at the same place, so that nothing but the order of the confidences matters.

    Attributes:
        nll: Where the curves are given, by the NLL of the model's own answer, nats, ascending, at
            least one. Between them they are linear, beyond them constant.
        held_out: a there, fractions.
        trained: q there, fractions.
        gated: Whether only what the model knows is smoothed.
    """

    nll: tuple[float, ...]
    held_out: tuple[float, ...]
    trained: tuple[float, ...]
    gated: bool

    def smoothing(self, own: Tensor, n_options: Tensor | None = None) -> Tensor:
        """The alpha e of each unit, in [0, 1], ``[U]``.

        Args:
            own: NLLs of the model's own answers, nats, ``[U]``.
            n_options: K of each unit, ``[U]``, at least 2; None: a whole vocabulary, whose 1 / K is
                taken for 0.
        """
        a = _interpolated(self.nll, self.held_out, own)
        q = _interpolated(self.nll, self.trained, own)
        chance = torch.zeros_like(q) if n_options is None else 1 / n_options.double()
        room = q * (1 - chance) if self.gated else q - chance
        some = room > 0
        asked = (q - a) / torch.where(some, room, 1.0)
        return torch.where(some, asked, 0.0).clamp(0, 1).to(own)


def _interpolated(x: Sequence[float], y: Sequence[float], at: Tensor) -> Tensor:
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
