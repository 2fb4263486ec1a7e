"""The identity of a model: what a `calibration.json` knows it by, without a local path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cogcalib.deployment.calibration_file import ModelIdentity, tokenizer_hash
from cogcalib.modeling import fingerprint
from cogcalib.modeling.adapters import adapter_hash
from cogcalib.modeling.model_files import public_name

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def identify(
    source: str | Path, tokenizer: PreTrainedTokenizerBase, adapter: Path | None = None
) -> ModelIdentity:
    """What a model is known by.

    Args:
        source: Of a model, not of an adapter: a folder, a hub id, or one of `ATLAS`.
        tokenizer: That its questions are put with.
        adapter: Folder of the adapter on top of it; None without one, or for one on the hub.

    Raises:
        ValueError: As `cogcalib.modeling.fingerprint`.
    """
    found = fingerprint(source)
    return ModelIdentity(
        public_name(source),
        found["sha256"],
        found["commit"],
        tokenizer_hash(tokenizer),
        None if adapter is None else adapter_hash(adapter),
    )
