"""The number format of a model's weights: as they are stored, and as they are taken here."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig

from cogcalib.modeling.model_files import (
    ATLAS,
    SMOLLM2,
    checked_source,
    model_not_found,
    public_name,
    resolve_model,
    unreadable,
)
from cogcalib.records import AUTO, DTYPES

_STORED = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64"}
"""Name of a format in safetensors -> torch's."""


def own_dtype(path_or_id: str | Path, revision: str | None = None) -> str:
    """The number format of a model's weights, as transformers' ``dtype="auto"`` finds it.

    That is what its config.json says, else what most of a folder's weights are stored in, else
    float32. The embedded models are float32, and shipped in half of it to be small; GGUF files are
    dequantised to float32. `revision` is of a model on the hub.

    Raises:
        ValueError: If there is no such model, or its format is none of `cogcalib.records.DTYPES`.
    """
    name = str(path_or_id)
    gguf = name == SMOLLM2 or (name.lower().endswith(".gguf") and not os.path.isdir(name))
    if gguf or public_name(name) in ATLAS:
        return "float32"
    source = checked_source(resolve_model(str(path_or_id)), "model", "config.json")
    config = read_model_config(source, revision)
    local = os.path.isdir(source)
    named = config.dtype or config.get_text_config().dtype
    found = str(named).removeprefix("torch.") if named else most_stored(source) if local else ""
    found = found or "float32"
    if found not in DTYPES:
        raise ValueError(
            f"dtype auto: the weights of {path_or_id} are {found}, which is none of "
            f"{', '.join(DTYPES)}; name one of them"
        )
    return found


def read_model_config(source: str, revision: str | None = None) -> Any:
    """What config.json says of a model, for errors that are as those of loading it.

    Raises:
        ValueError: If there is none, or it cannot be read.
    """
    try:
        return AutoConfig.from_pretrained(
            source,
            trust_remote_code=False,
            local_files_only=os.path.isdir(source),
            revision=revision or "main",
        )
    except OSError as error:
        raise model_not_found(source, error) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise unreadable(source, error, "its config.json") from error


def settled_dtype(
    dtype: str,
    path_or_id: str | Path,
    device: torch.device | str,
    *,
    allowed: Sequence[str] = DTYPES,
    revision: str | None = None,
) -> tuple[str, str]:
    """The number format that weights are taken in, and what is to be said of it.

    Args:
        dtype: One that was named, which stays, or `AUTO`, the weights' own.
        path_or_id: The model.
        device: Where it will be.
        allowed: What the caller can take, float32 among it.
        revision: Of a model on the hub.

    Returns:
        The format, and a sentence where it is not the weights' own; else an empty one.

    Raises:
        ValueError: As `own_dtype`.
    """
    if dtype != AUTO:
        return dtype, ""
    own = own_dtype(path_or_id, revision)
    on_cpu = torch.device(device).type == "cpu"
    if own in allowed and not (own == "float16" and on_cpu):
        return own, ""
    taken = "float32"
    why = f"which is none of {', '.join(allowed)}"
    if own == "float16" and on_cpu:
        why = "which CPUs compute slowly or not at all"
    elif own == "float16" and "bfloat16" in allowed:
        taken = "bfloat16"
    memory = ", in twice the memory" if (own, taken) == ("float16", "float32") else ""
    return taken, (
        f"dtype auto: the weights of {path_or_id} are {own}, {why}; they are taken as {taken}"
        f"{memory}"
    )


def most_stored(folder: str) -> str:
    """The format of most numbers in a folder's safetensors; empty if it holds none."""
    found: Counter[str] = Counter()
    for file in sorted(Path(folder).glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as tensors:  # its header alone
                for name in tensors.keys():  # noqa: SIM118, a file and no mapping
                    part = tensors.get_slice(name)
                    found[part.get_dtype()] += torch.Size(part.get_shape()).numel()
        except SafetensorError as error:
            raise unreadable(folder, error, "its weights") from error
    if not found:
        return ""
    most = found.most_common(1)[0][0]
    return _STORED.get(most, most)
