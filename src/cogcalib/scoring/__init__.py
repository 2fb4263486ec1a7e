"""Model and examples in, predictions out: multiple choice, open-ended, and their summary."""

from __future__ import annotations

from cogcalib.scoring.definitions import MULTIPLE_CHOICE, OPEN_ENDED
from cogcalib.scoring.forward import inference
from cogcalib.scoring.match import exact_match, normalize_answer
from cogcalib.scoring.multiple_choice import predict_from_logits, score_multiple_choice
from cogcalib.scoring.open_ended import Generation, answer_nll, generate, score_open_ended
from cogcalib.scoring.recalibrate import fit_temperatures
from cogcalib.scoring.score import answer_logits, score
from cogcalib.scoring.summary import SMALL_N, primary_definition, summarize

__all__ = [
    "MULTIPLE_CHOICE",
    "OPEN_ENDED",
    "SMALL_N",
    "Generation",
    "answer_logits",
    "answer_nll",
    "exact_match",
    "fit_temperatures",
    "generate",
    "inference",
    "normalize_answer",
    "predict_from_logits",
    "primary_definition",
    "score",
    "score_multiple_choice",
    "score_open_ended",
    "summarize",
]
