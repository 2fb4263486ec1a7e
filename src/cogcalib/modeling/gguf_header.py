"""The header of a GGUF file: architecture, sizes and number formats, read without the weights."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Architectures whose configuration transformers reads in full."""

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)


@dataclass(frozen=True, slots=True)
class GgufModel:
    """A model in a GGUF file, as its header describes it.

    Attributes:
        path: The file.
        architecture: One of `ARCHITECTURES`.
        weights: Number of weights.
        formats: Number formats of the tensors, such as Q4_1, sorted.
        fields: Metadata: key -> value; the long lists of tokens and merges are not among them.
    """

    path: Path
    architecture: str
    weights: int
    formats: tuple[str, ...]
    fields: dict[str, Any]

    @property
    def float32_bytes(self) -> int:
        """Bytes of the weights in float32."""
        return 4 * self.weights


def read_gguf(path: Path) -> GgufModel:
    """Read and check the header of a GGUF file.

    Raises:
        ValueError: If the package ``gguf`` is not installed, the file is not GGUF, is truncated,
            or holds an architecture, a number format, a scaling of positions or a part of a model
            that cannot be converted.
    """
    if importlib.util.find_spec("gguf") is None:
        raise ValueError(
            f'model {path}: reading GGUF files needs the package gguf: pip install "cogcalib[gguf]"'
        )
    _check_magic(path)
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        fields = {
            name: field.contents()
            for name, field in reader.fields.items()
            if not (name.startswith("tokenizer.") and len(field.data) > 1)
        }
    except Exception as error:  # whatever a reader of bytes that end too early stumbles over
        raise ValueError(
            f"model {path} is truncated or damaged, get it anew: {error or type(error).__name__}"
        ) from error
    _check_fields(path, fields, {tensor.name for tensor in reader.tensors})
    formats = _check_formats(path, reader.tensors)
    weights = sum(math.prod(int(size) for size in tensor.shape) for tensor in reader.tensors)
    return GgufModel(path, fields["general.architecture"], weights, formats, fields)


def _check_magic(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(8)
    if start[:4] != _MAGIC:
        raise ValueError(f"model {path} is not a GGUF file: it does not begin with GGUF")
    version = int.from_bytes(start[4:], "little")
    if len(start) < 8 or version not in _VERSIONS:
        raise ValueError(
            f"model {path} is GGUF of version {version}; versions 2 and 3 (little-endian) are read"
        )


def _check_fields(path: Path, fields: dict[str, Any], tensors: set[str]) -> None:
    architecture = fields.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"model {path} has the architecture {architecture!r}; "
            f"GGUF files are read of {', '.join(ARCHITECTURES)}"
        )
    scaling = fields.get(f"{architecture}.rope.scaling.type", "none")
    if scaling != "none" or "rope_freqs.weight" in tensors:
        # transformers drops both in silence: the model would differ beyond its first positions.
        kind = "rope_freqs" if scaling == "none" else scaling
        raise ValueError(
            f"model {path} scales its rotary positions ({kind}), which transformers does not read "
            "from GGUF; use the model's safetensors"
        )
    if fields.get(f"{architecture}.expert_count", 0):
        raise ValueError(f"model {path} is a mixture of experts; use the model's safetensors")
    if fields.get("split.count", 1) > 1:
        raise ValueError(
            f"model {path} is one of {fields['split.count']} parts; "
            "join them with llama.cpp's llama-gguf-split --merge"
        )


def _check_formats(path: Path, tensors: list[Any]) -> tuple[str, ...]:
    """The number formats, each of which one row was dequantised of."""
    from gguf import dequantize

    if not tensors:
        raise ValueError(f"model {path} holds no weights, only a vocabulary")
    one_of = {tensor.tensor_type: tensor for tensor in tensors}
    refused = []
    for kind, tensor in one_of.items():
        row = tensor.data if tensor.data.ndim == 1 else tensor.data[:1]
        try:
            dequantize(row, kind)
        except NotImplementedError:
            refused.append(kind.name)
    if refused:
        raise ValueError(
            f"model {path} holds weights in {', '.join(sorted(refused))}, "
            "which the package gguf cannot dequantise; take another quantisation of the model"
        )
    return tuple(sorted(kind.name for kind in one_of))
