"""Model, tokenizer and LoRA; encoding is the sole owner of prompt, loss mask and answer span."""

from __future__ import annotations

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
from cogcalib.modeling.lora import lora_config
from cogcalib.modeling.model import (
    ATLAS,
    DTYPES,
    atlas_cache,
    fingerprint,
    load_model,
    load_tokenizer,
    resolve_model,
)

__all__ = [
    "ATLAS",
    "DTYPES",
    "IGNORED",
    "Encoded",
    "atlas_cache",
    "encode",
    "encode_batch",
    "fingerprint",
    "load_model",
    "load_tokenizer",
    "lora_config",
    "render_completion",
    "render_prompt",
    "resolve_model",
    "surface_ids",
    "to_dataset",
]
