"""Asking a model: log-probabilities and generations, whatever engine it runs in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogcalib.lazy import import_on_use

if TYPE_CHECKING:
    from cogcalib.inference.backend import (
        AnswerOdds,
        Backend,
        FirstToken,
        Generation,
        Sampling,
        TokenScores,
        WholeLogits,
        whole_logits,
    )
    from cogcalib.inference.backend_loading import check_backend, load_backend
    from cogcalib.inference.backend_spec import BackendSpec
    from cogcalib.inference.transformers_backend import TransformersBackend

__all__ = [
    "AnswerOdds",
    "Backend",
    "BackendSpec",
    "FirstToken",
    "Generation",
    "Sampling",
    "TokenScores",
    "TransformersBackend",
    "WholeLogits",
    "check_backend",
    "load_backend",
    "whole_logits",
]

import_on_use(
    __name__,
    {
        "cogcalib.inference.backend": [
            "AnswerOdds",
            "Backend",
            "FirstToken",
            "Generation",
            "Sampling",
            "TokenScores",
            "WholeLogits",
            "whole_logits",
        ],
        "cogcalib.inference.backend_loading": ["check_backend", "load_backend"],
        "cogcalib.inference.backend_spec": ["BackendSpec"],
        "cogcalib.inference.transformers_backend": ["TransformersBackend"],
    },
)
