"""Scoring: predictions on multiple-choice and open-ended questions, and their summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogcalib.lazy import import_on_use

if TYPE_CHECKING:
    from cogcalib.scoring.agreement import fit_to_base, why_uncalibrated
    from cogcalib.scoring.confidence_names import MULTIPLE_CHOICE, OPEN_ENDED, ranked
    from cogcalib.scoring.config import ScoreSettings
    from cogcalib.scoring.metrics_row import primary_definition, summarize
    from cogcalib.scoring.multiple_choice import predict_from_logits
    from cogcalib.scoring.posthoc import (
        apply_confidence_maps,
        apply_option_scaling,
        fit_confidence_maps,
        fit_option_scaling,
    )
    from cogcalib.scoring.prediction_files import read_predictions, write_predictions
    from cogcalib.scoring.recalibrate import fit_temperatures
    from cogcalib.scoring.score import answer_logits, score, score_at, score_with, takes_letters

__all__ = [
    "MULTIPLE_CHOICE",
    "OPEN_ENDED",
    "ScoreSettings",
    "answer_logits",
    "apply_confidence_maps",
    "apply_option_scaling",
    "fit_confidence_maps",
    "fit_option_scaling",
    "fit_temperatures",
    "fit_to_base",
    "predict_from_logits",
    "primary_definition",
    "ranked",
    "read_predictions",
    "score",
    "score_at",
    "score_with",
    "summarize",
    "takes_letters",
    "why_uncalibrated",
    "write_predictions",
]

import_on_use(
    __name__,
    {
        "cogcalib.scoring.agreement": ["fit_to_base", "why_uncalibrated"],
        "cogcalib.scoring.config": ["ScoreSettings"],
        "cogcalib.scoring.confidence_names": ["MULTIPLE_CHOICE", "OPEN_ENDED", "ranked"],
        "cogcalib.scoring.metrics_row": ["primary_definition", "summarize"],
        "cogcalib.scoring.multiple_choice": ["predict_from_logits"],
        "cogcalib.scoring.posthoc": [
            "apply_confidence_maps",
            "apply_option_scaling",
            "fit_confidence_maps",
            "fit_option_scaling",
        ],
        "cogcalib.scoring.prediction_files": ["read_predictions", "write_predictions"],
        "cogcalib.scoring.recalibrate": ["fit_temperatures"],
        "cogcalib.scoring.score": [
            "answer_logits",
            "score",
            "score_at",
            "score_with",
            "takes_letters",
        ],
    },
)
