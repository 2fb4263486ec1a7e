"""The gate as it stands for one micro-batch: all that is known before the NLLs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from cogcalib.losses import Gate, gate_weights
from cogcalib.training.curve import AccuracyCurve


@dataclass(frozen=True, slots=True)
class OpenGate:
    """Maps NLLs to weights, unit by unit, in any order and as often as asked.

    Attributes:
        gate: Which gate; ``none`` during the style phase.
        threshold: In force, nats.
        temperature: Of the gate ``soft``, nats.
        rate: Of the gate ``random``.
        draws: Uniform in [0, 1), one per unit, ``[U]``; for the gate ``random``.
        known: Fixed label of each unit, ``[U]``; for the gate ``oracle``.
        curve: Gives each unit a strength of its own; None: all have the same.
        n_options: Of each unit, ``[U]``, where the penalty is over options; else None.
    """

    gate: Gate
    threshold: float
    temperature: float
    rate: float
    draws: Tensor | None = None
    known: Tensor | None = None
    curve: AccuracyCurve | None = None
    n_options: Tensor | None = None

    def __call__(self, nll: Tensor, units: slice) -> Tensor:
        """Weights of some consecutive units, ``[u]``, given their NLLs."""
        weights = gate_weights(
            nll,
            self.threshold,
            self.gate,
            known=None if self.known is None else self.known.to(nll.device)[units],
            draws=None if self.draws is None else self.draws[units].to(nll),
            rate=self.rate,
            temperature=self.temperature,
        )
        if self.curve is None:
            return weights
        n_options = None if self.n_options is None else self.n_options.to(nll.device)[units]
        return weights * self.curve.smoothing(nll, n_options)

    def known_among(self, nll: Tensor) -> Tensor:
        """How many units the threshold calls known, whatever the gate makes of it."""
        return (nll <= self.threshold).sum()


CLOSED = OpenGate("none", threshold=math.nan, temperature=1.0, rate=0.0)
"""Plain cross-entropy, as in evaluation."""
