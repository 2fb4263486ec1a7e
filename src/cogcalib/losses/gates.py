"""The gate: from the NLL of each example to the weight of its penalty.

The method's own gate and the controls it is compared with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from cogcalib.losses.accuracy_curve import AccuracyCurve

GateKind = Literal["nll", "none", "all", "random", "inverted", "oracle", "soft"]
GATES: tuple[GateKind, ...] = get_args(GateKind)


@dataclass(frozen=True, slots=True)
class Gate:
    """The gate of one batch: everything that is known before its NLLs are.

    ======== ==========================================================
    nll      1 if NLL <= t: the method
    inverted 1 if NLL > t: only what the model does not know
    soft     sigmoid((t - NLL) / tau)
    oracle   1 if labelled known beforehand
    random   1 with probability `rate`, whatever the example: where the draw is below it
    all      1: uniform regularisation
    none     0: plain fine-tuning
    ======== ==========================================================

    U is the number of units in the batch: examples, unless turns or tokens are gated.

    Attributes:
        kind: Which gate.
        threshold: t in nats; +inf: every unit is known, -inf: none is, nan: there is none yet.
        temperature: tau in nats, above 0; needed for ``soft``.
        rate: Probability in [0, 1]; needed for ``random``.
        draws: Uniform in [0, 1), ``[U]``; needed for ``random``. The caller draws them, apart from
            the training's own random numbers, so that a gate changes nothing but the gate.
        known: Fixed labels, ``[U]`` bool; needed for ``oracle``.
        curve: Multiplies each weight by an alpha of the unit's own; None: by 1.
        n_options: Options of each unit, ``[U]``, for `curve` where the penalty is over options;
            None: the penalty is over the vocabulary.

    Raises:
        ValueError: If the gate is unknown or lacks what it needs.
    """

    kind: GateKind
    threshold: float = math.nan
    temperature: float = math.nan
    rate: float | None = None
    draws: Tensor | None = None
    known: Tensor | None = None
    curve: AccuracyCurve | None = None
    n_options: Tensor | None = None

    def __post_init__(self) -> None:
        if self.kind not in GATES:
            raise ValueError(f"gate must be one of {list(GATES)}, got {self.kind!r}")
        if self.kind == "soft" and not self.temperature > 0:
            raise ValueError(f"temperature must be > 0 nats, got {self.temperature}")
        if self.kind == "oracle" and self.known is None:
            raise ValueError("gate 'oracle' needs known, the fixed label of each example")
        rated = self.rate is not None and 0 <= self.rate <= 1
        if self.kind == "random" and (self.draws is None or not rated):
            raise ValueError(f"gate 'random' needs draws and a rate in [0, 1], got {self.rate}")

    def weights(self, nll: Tensor, units: slice = slice(None)) -> Tensor:
        """Weights in [0, 1] of some consecutive units, ``[u]``, dtype and device of `nll`.

        Args:
            nll: Their NLLs, detached, nats, ``[u]``.
            units: Their place in the batch.
        """
        if self.kind == "nll":
            weights = (nll <= self.threshold).to(nll)
        elif self.kind == "inverted":
            weights = (nll > self.threshold).to(nll)
        elif self.kind == "soft":
            weights = torch.sigmoid((self.threshold - nll) / self.temperature)
        elif self.kind == "oracle" and self.known is not None:
            weights = self.known[units].to(nll)
        elif self.kind == "random" and self.draws is not None and self.rate is not None:
            weights = (self.draws[units].to(nll) < self.rate).to(nll)
        else:
            weights = torch.full_like(nll, float(self.kind == "all"))
        if self.curve is None:
            return weights
        n_options = None if self.n_options is None else self.n_options[units].to(nll.device)
        return weights * self.curve.smoothing(nll, n_options)

    def count_known(self, nll: Tensor) -> Tensor:
        """How many units the threshold calls known, whatever the gate makes of it."""
        return (nll <= self.threshold).sum()


CLOSED = Gate("none")
"""Plain cross-entropy, as in evaluation."""
