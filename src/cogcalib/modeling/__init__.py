"""Model, tokenizer and LoRA; prompts, and encoding: sole owner of loss mask and answer span."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogcalib.lazy import import_on_use

if TYPE_CHECKING:
    from cogcalib.modeling.encoding import (
        IGNORED,
        Encoded,
        encode,
        encode_batch,
        render_completion,
        render_prompt,
        surface_ids,
        to_dataset,
    )
    from cogcalib.modeling.labels import Label, LabelAudit, audit_labels
    from cogcalib.modeling.lora import lora_config
    from cogcalib.modeling.model import load_model, load_tokenizer
    from cogcalib.modeling.model_files import (
        ATLAS,
        atlas_cache,
        fingerprint,
        fingerprint_adapter,
        resolve_model,
    )
    from cogcalib.modeling.passages import shorten_passages

__all__ = [
    "ATLAS",
    "IGNORED",
    "Encoded",
    "Label",
    "LabelAudit",
    "atlas_cache",
    "audit_labels",
    "encode",
    "encode_batch",
    "fingerprint",
    "fingerprint_adapter",
    "load_model",
    "load_tokenizer",
    "lora_config",
    "render_completion",
    "render_prompt",
    "resolve_model",
    "shorten_passages",
    "surface_ids",
    "to_dataset",
]

import_on_use(
    __name__,
    {
        "cogcalib.modeling.encoding": [
            "IGNORED",
            "Encoded",
            "encode",
            "encode_batch",
            "render_completion",
            "render_prompt",
            "surface_ids",
            "to_dataset",
        ],
        "cogcalib.modeling.labels": ["Label", "LabelAudit", "audit_labels"],
        "cogcalib.modeling.lora": ["lora_config"],
        "cogcalib.modeling.model": ["load_model", "load_tokenizer"],
        "cogcalib.modeling.model_files": [
            "ATLAS",
            "atlas_cache",
            "fingerprint",
            "fingerprint_adapter",
            "resolve_model",
        ],
        "cogcalib.modeling.passages": ["shorten_passages"],
    },
)
