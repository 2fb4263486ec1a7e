"""From a trained model to an answer: `calibration.json`, predictions, abstention, export."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogcalib.lazy import import_on_use

if TYPE_CHECKING:
    from cogcalib.deployment.answer import Alternative, Answer, TokenLogprob
    from cogcalib.deployment.calibration_file import (
        AbstentionRule,
        AnswerFormat,
        Calibration,
        FittedMap,
        ModelIdentity,
        SplitMetrics,
        read_calibration,
        write_calibration,
    )
    from cogcalib.deployment.predictor import Predictor, load

__all__ = [
    "AbstentionRule",
    "Alternative",
    "Answer",
    "AnswerFormat",
    "Calibration",
    "FittedMap",
    "ModelIdentity",
    "Predictor",
    "SplitMetrics",
    "TokenLogprob",
    "load",
    "read_calibration",
    "write_calibration",
]

import_on_use(
    __name__,
    {
        "cogcalib.deployment.answer": ["Alternative", "Answer", "TokenLogprob"],
        "cogcalib.deployment.calibration_file": [
            "AbstentionRule",
            "AnswerFormat",
            "Calibration",
            "FittedMap",
            "ModelIdentity",
            "SplitMetrics",
            "read_calibration",
            "write_calibration",
        ],
        "cogcalib.deployment.predictor": ["Predictor", "load"],
    },
)
