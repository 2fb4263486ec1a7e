"""Training: a TRL trainer whose loss spares the model from overconfidence in what it knows."""

from __future__ import annotations

from cogcalib.training.collator import CogCalibCollator
from cogcalib.training.config import CogCalibConfig
from cogcalib.training.fit import FitData, fit
from cogcalib.training.state import KnowledgeState
from cogcalib.training.trainer import CogCalibTrainer

__all__ = [
    "CogCalibCollator",
    "CogCalibConfig",
    "CogCalibTrainer",
    "FitData",
    "KnowledgeState",
    "fit",
]
