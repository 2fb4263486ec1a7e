"""Model and examples in, predictions out: multiple choice, open-ended, and their summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogcalib.lazy import import_on_use

if TYPE_CHECKING:
    from cogcalib.inference.forward import inference
    from cogcalib.scoring.continuations import option_log_likelihoods, score_continuations
    from cogcalib.scoring.definitions import MULTIPLE_CHOICE, OPEN_ENDED
    from cogcalib.scoring.match import exact_match, normalize_answer, token_f1
    from cogcalib.scoring.metrics_row import primary_definition, summarize
    from cogcalib.scoring.multiple_choice import predict_from_logits, score_multiple_choice
    from cogcalib.scoring.open_ended import Generation, answer_nll, generate, score_open_ended
    from cogcalib.scoring.posthoc import (
        apply_confidence_maps,
        apply_vector_scaling,
        fit_confidence_maps,
        fit_vector_scaling,
    )
    from cogcalib.scoring.prediction_files import read_predictions, write_predictions
    from cogcalib.scoring.recalibrate import fit_temperatures
    from cogcalib.scoring.score import answer_logits, score
    from cogcalib.scoring.settings import ScoreSettings

__all__ = [
    "MULTIPLE_CHOICE",
    "OPEN_ENDED",
    "Generation",
    "ScoreSettings",
    "answer_logits",
    "answer_nll",
    "apply_confidence_maps",
    "apply_vector_scaling",
    "exact_match",
    "fit_confidence_maps",
    "fit_temperatures",
    "fit_vector_scaling",
    "generate",
    "inference",
    "normalize_answer",
    "option_log_likelihoods",
    "predict_from_logits",
    "primary_definition",
    "read_predictions",
    "score",
    "score_continuations",
    "score_multiple_choice",
    "score_open_ended",
    "summarize",
    "token_f1",
    "write_predictions",
]

import_on_use(
    __name__,
    {
        "cogcalib.inference.forward": ["inference"],
        "cogcalib.scoring.continuations": ["option_log_likelihoods", "score_continuations"],
        "cogcalib.scoring.definitions": ["MULTIPLE_CHOICE", "OPEN_ENDED"],
        "cogcalib.scoring.match": ["exact_match", "normalize_answer", "token_f1"],
        "cogcalib.scoring.metrics_row": ["primary_definition", "summarize"],
        "cogcalib.scoring.multiple_choice": ["predict_from_logits", "score_multiple_choice"],
        "cogcalib.scoring.open_ended": ["Generation", "answer_nll", "generate", "score_open_ended"],
        "cogcalib.scoring.posthoc": [
            "apply_confidence_maps",
            "apply_vector_scaling",
            "fit_confidence_maps",
            "fit_vector_scaling",
        ],
        "cogcalib.scoring.prediction_files": ["read_predictions", "write_predictions"],
        "cogcalib.scoring.recalibrate": ["fit_temperatures"],
        "cogcalib.scoring.score": ["answer_logits", "score"],
        "cogcalib.scoring.settings": ["ScoreSettings"],
    },
)
