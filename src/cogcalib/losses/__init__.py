"""The loss: terms per token, the gate per example, the objective over both. Torch only."""

from __future__ import annotations

from cogcalib.losses.fused import FusedParts, fused_cogcalib_loss, fused_statistics
from cogcalib.losses.fused_pass import GateSlice
from cogcalib.losses.gate import GATES, Gate, gate_weights
from cogcalib.losses.head import LinearHead
from cogcalib.losses.objective import LossParts, NllReduction, cogcalib_loss, example_nll
from cogcalib.losses.standalone import CogCalibLoss
from cogcalib.losses.statistics import TokenStatistics, known_examples, token_statistics
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
    "CogCalibLoss",
    "FusedParts",
    "Gate",
    "GateSlice",
    "LinearHead",
    "LossParts",
    "MarginReduction",
    "NllReduction",
    "Penalty",
    "PenaltyKind",
    "Support",
    "TokenStatistics",
    "cogcalib_loss",
    "cross_entropy",
    "example_nll",
    "fused_cogcalib_loss",
    "fused_statistics",
    "gate_weights",
    "known_examples",
    "token_penalty",
    "token_statistics",
]
