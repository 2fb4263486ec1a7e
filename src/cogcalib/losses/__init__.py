"""The loss: terms per token, the gate per example, the objective over both. Torch only."""

from __future__ import annotations

from cogcalib.losses.gate import GATES, Gate, gate_weights
from cogcalib.losses.objective import LossParts, NllReduction, cogcalib_loss, example_nll
from cogcalib.losses.terms import (
    NO_OPTION,
    MarginReduction,
    Penalty,
    PenaltyKind,
    Support,
    cross_entropy,
    token_penalty,
)

__all__ = [
    "GATES",
    "NO_OPTION",
    "Gate",
    "LossParts",
    "MarginReduction",
    "NllReduction",
    "Penalty",
    "PenaltyKind",
    "Support",
    "cogcalib_loss",
    "cross_entropy",
    "example_nll",
    "gate_weights",
    "token_penalty",
]
