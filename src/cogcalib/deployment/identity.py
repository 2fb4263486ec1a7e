"""The identity of a model: what a `calibration.json` knows it by, without a local path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cogcalib.deployment.calibration_file import ModelIdentity, tokenizer_hash
from cogcalib.modeling import ATLAS, fingerprint, resolve_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CACHED = "models--"


def identify(source: str | Path, tokenizer: PreTrainedTokenizerBase) -> ModelIdentity:
    """What a model is known by.

    Args:
        source: Of a model, not of an adapter: a folder, a hub id, or one of `ATLAS`.
        tokenizer: That its questions are put with.

    Raises:
        ValueError: As `cogcalib.modeling.fingerprint`.
    """
    found = fingerprint(source)
    return ModelIdentity(
        public_name(source), found["sha256"], found["commit"], tokenizer_hash(tokenizer)
    )


def public_name(source: str | Path) -> str:
    """A model's name without the path to it: ``atlas``, a hub id, or a folder's last part."""
    name = str(source)
    if name in ATLAS:
        return name
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return name
    folder = folder.resolve()
    for embedded in ATLAS:
        try:
            if folder == Path(resolve_model(embedded)).resolve():
                return embedded
        except ValueError:  # a variant that is not built
            continue
    # The hub's cache keeps a model's owner and name in the name of a folder.
    cached = [part for part in folder.parts if part.startswith(_CACHED)]
    return cached[-1].removeprefix(_CACHED).replace("--", "/") if cached else folder.name
