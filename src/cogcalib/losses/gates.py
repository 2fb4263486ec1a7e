"""The gate: from the NLL of each example to the weight of its penalty.

The method's own gate and the controls it is compared with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from cogcalib.losses.gap_curve import GapCurve
from cogcalib.losses.terms import check_choice

GateKind = Literal["nll", "none", "all", "random", "inverted", "oracle", "soft", "prior"]
GATES: tuple[GateKind, ...] = get_args(GateKind)

CHOOSING = ("nll", "random", "inverted", "soft", "prior")
"""Gates that choose by the threshold."""

NONE, ALL = 0.01, 0.99
"""Shares in the whole gated training below and above which a gate never chose."""

FEW_REASONS = (
    "Either the model knows little of the task, or the NLL does not separate what it knows (see "
    "separation in thresholds.json, or in what estimate_threshold returns), or answers are not "
    "written as the model writes them: their leading space, the end token, prompts that are learnt "
    "too."
)

_MOST_REASONS = (
    "Either the model knew nearly all of the task before, or it had memorised the examples by the "
    "first threshold: shorten the style phase, and train for fewer epochs."
)


@dataclass(frozen=True, slots=True)
class Gate:
    """The gate of one batch: everything that is known before its NLLs are.

    ======== ==========================================================
    nll      1 if NLL <= t: the method
    inverted 1 if NLL > t: only what the model does not know
    soft     sigmoid((t - NLL) / tau)
    oracle   1 if labelled known beforehand
    prior    1 if NLL <= t when the example was first met
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
        prior: Labels given when first met, 1 known and 0 not, ``[U]``; -1: this is the first time,
            and the NLL decides. Needed for ``prior``.
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
    prior: Tensor | None = None
    curve: GapCurve | None = None
    n_options: Tensor | None = None

    def __post_init__(self) -> None:
        check_choice("gate", self.kind, GATES)
        if self.kind == "soft" and not self.temperature > 0:
            raise ValueError(f"temperature must be > 0 nats, got {self.temperature}")
        if self.kind == "oracle" and self.known is None:
            raise ValueError("gate 'oracle' needs known, the fixed label of each example")
        if self.kind == "prior" and self.prior is None:
            raise ValueError("gate 'prior' needs prior, the label of each example so far")
        rated = self.rate is not None and 0 <= self.rate <= 1
        if self.kind == "random" and (self.draws is None or not rated):
            raise ValueError(f"gate 'random' needs draws and a rate in [0, 1], got {self.rate}")

    def weights(self, nll: Tensor, units: slice = slice(None), own: Tensor | None = None) -> Tensor:
        """Weights in [0, 1] of some consecutive units, ``[u]``, dtype and device of `nll`.

        Args:
            nll: Their NLLs, detached, nats, ``[u]``.
            units: Their place in the batch.
            own: NLLs of the model's own answers, detached, nats, ``[u]``; for a `curve` by them.
        """
        weights = self._opens(nll, units)
        if self.curve is None:
            return weights
        if own is None:
            raise ValueError("alpha='gap' needs the NLL of the model's own answers, got None")
        n_options = None if self.n_options is None else self.n_options[units].to(nll.device)
        return weights * self.curve.smoothing(own, n_options).to(weights)

    def count_known(self, nll: Tensor) -> Tensor:
        """How many units of a whole batch count as known, whatever the gate makes of it.

        By the threshold; with ``prior`` and ``oracle`` by the labels.
        """
        labelled = self.kind in ("prior", "oracle")
        known = self._opens(nll, slice(None)) if labelled else self._below(nll)
        return known.sum()

    def _below(self, nll: Tensor) -> Tensor:
        return nll <= self.threshold

    def _opens(self, nll: Tensor, units: slice) -> Tensor:
        """The weights but for `curve`."""
        if self.kind == "nll":
            return self._below(nll).to(nll)
        if self.kind == "inverted":
            return (nll > self.threshold).to(nll)
        if self.kind == "soft":
            return torch.sigmoid((self.threshold - nll) / self.temperature)
        if self.kind == "oracle" and self.known is not None:
            return self.known[units].to(nll)
        if self.kind == "prior" and self.prior is not None:
            labels = self.prior[units].to(nll.device)
            return torch.where(labels < 0, self._below(nll), labels == 1).to(nll)
        if self.kind == "random" and self.draws is not None and self.rate is not None:
            return (self.draws[units].to(nll) < self.rate).to(nll)
        return torch.full_like(nll, float(self.kind == "all"))


CLOSED = Gate("none")
"""Plain cross-entropy, as in evaluation."""


def never_chose(gate: str, known: float, units: float) -> str:
    """What is wrong where nearly all or hardly any of what was seen counted as known.

    Args:
        gate: Which.
        known: Known units of the whole gated training.
        units: All of its units.

    Returns:
        A message with the likely reason; empty if nothing is wrong, or the gate does not choose.
    """
    if gate not in (*CHOOSING, "oracle") or not units or NONE <= known / units <= ALL:
        return ""
    few = known / units < NONE
    said = (
        f"{known / units:.1%} of the training examples counted as known in all of the gated "
        "training: the gate never chose."
    )
    if gate == "oracle":
        knows = "little" if few else "nearly all"
        return (
            f"{said} The column of labels says so: the model knows {knows} of the task, or they "
            "are of another model or other data."
        )
    return f"{said} {FEW_REASONS if few else _MOST_REASONS}"
