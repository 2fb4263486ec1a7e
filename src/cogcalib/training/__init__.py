"""Training: a TRL trainer whose loss spares the model from overconfidence in what it knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogcalib.lazy import import_on_use

if TYPE_CHECKING:
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

import_on_use(
    __name__,
    {
        "cogcalib.training.collator": ["CogCalibCollator"],
        "cogcalib.training.config": ["CogCalibConfig"],
        "cogcalib.training.fit": ["FitData", "fit"],
        "cogcalib.training.state": ["KnowledgeState"],
        "cogcalib.training.trainer": ["CogCalibTrainer"],
    },
)
