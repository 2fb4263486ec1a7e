"""The loss: terms per token, the gate per example, the objective over both. Torch only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogcalib.lazy import import_on_use
from cogcalib.losses.fused import fused_cogcalib_loss, fused_statistics
from cogcalib.losses.gap_curve import GapCurve
from cogcalib.losses.gates import CLOSED, GATES, Gate, GateKind
from cogcalib.losses.objective import (
    FusedParts,
    LossParts,
    NllReduction,
    cogcalib_loss,
    example_nll,
    reference_loss,
)
from cogcalib.losses.projection import LinearHead
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

if TYPE_CHECKING:
    from cogcalib.losses.standalone import CogCalibLoss

__all__ = [
    "CLOSED",
    "GATES",
    "NO_OPTION",
    "CogCalibLoss",
    "FusedParts",
    "GapCurve",
    "Gate",
    "GateKind",
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
    "known_examples",
    "reference_loss",
    "token_penalty",
    "token_statistics",
]

# For loops without our trainer, which does without it.
import_on_use(__name__, {"cogcalib.losses.standalone": ["CogCalibLoss"]})
