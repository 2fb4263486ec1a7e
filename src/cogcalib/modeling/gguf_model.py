"""Models from GGUF files: dequantised once to safetensors, in a cache named by the file's hash."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from transformers import AutoModelForCausalLM, GenerationConfig

from cogcalib.modeling.gguf_header import GgufModel, read_gguf
from cogcalib.modeling.gguf_tokenizer import read_gguf_tokenizer

_EDITION = "1"
"""Of the conversion: raised when it changes what it writes."""


def converted_gguf(path: Path, cache: Path) -> str:
    """The folder of a GGUF file's model in float32 safetensors, converted if it was not yet.

    Workers that ask at the same time wait for the one that converts. A folder is there whole or
    not at all: it is built beside and renamed. What a killed conversion left is removed by the
    next one of the same file.

    Args:
        path: The file.
        cache: Where conversions lie, in folders named by sha256.

    Raises:
        ValueError: As `cogcalib.modeling.gguf_header.read_gguf`; or if the tokenizer cannot be
            read, weights are without a place in the model or missing, or the disk is too full.
    """
    digest = gguf_sha256(path)
    folder = cache / _EDITION / digest
    if folder.is_dir():
        return str(folder)
    found = read_gguf(path)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            for left in folder.parent.glob(f"{digest}.*.partial"):
                shutil.rmtree(left)
            if not folder.is_dir():
                _check_disk(found, folder.parent)
                _build(found, folder)
    except OSError as error:
        raise ValueError(
            f"model {path} cannot be converted to {folder}: {error.strerror or error}; "
            "XDG_CACHE_HOME names another cache"
        ) from error
    return str(folder)


def gguf_sha256(path: Path) -> str:
    """The hash of a file's content, computed once per process while the file does not change."""
    state = path.stat()
    return _sha256(str(path.resolve()), state.st_size, state.st_mtime_ns)


@functools.cache
def _sha256(path: str, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_disk(found: GgufModel, folder: Path) -> None:
    """Say what the conversion needs, and refuse where there is no room for it."""
    # Weights and a tokenizer's files.
    needed, free = found.float32_bytes + 2**24, shutil.disk_usage(folder).free
    print(
        f"Converting {found.path.name} ({found.weights / 1e6:.0f} M weights in "
        f"{', '.join(found.formats)}) to float32 in {folder}, once: "
        f"{_size(needed)} of disk, about {_size(2 * found.float32_bytes)} of memory",
        file=sys.stderr,
    )
    if free < needed:
        raise ValueError(
            f"model {found.path}: its conversion needs {_size(needed)} in {folder}, where "
            f"{_size(free)} are free; XDG_CACHE_HOME names another cache"
        )


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def _build(found: GgufModel, folder: Path) -> None:
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}.", suffix=".partial"))
    try:
        read_gguf_tokenizer(found.path, found.fields).save_pretrained(partial)
        _write_model(found, partial)
        partial.chmod(0o755)
        os.rename(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write_model(found: GgufModel, folder: Path) -> None:
    load: Any = AutoModelForCausalLM.from_pretrained
    try:
        model, loading = load(
            str(found.path.parent),
            gguf_file=found.path.name,
            dtype=torch.float32,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (KeyError, RuntimeError) as error:
        told = " ".join(str(error).split())[:300]
        raise ValueError(
            f"model {found.path}: transformers cannot read its weights: {told}"
        ) from error
    held = sum(each.numel() for each in model.parameters())
    if loading["missing_keys"] or held != found.weights:
        # What transformers has no name for it passes over in silence.
        missing = ", ".join(sorted(loading["missing_keys"])[:3]) or "none"
        raise ValueError(
            f"model {found.path} holds {found.weights} weights, the model that transformers makes "
            f"of it {held} (missing: {missing}); use the model's safetensors"
        )
    # A model read from GGUF does not let itself be saved: a fresh one takes its tensors over.
    config = model.config
    for of_the_file in ("quantization_config", "_model_name_or_path"):
        with contextlib.suppress(AttributeError):
            delattr(config, of_the_file)
    if getattr(config, "sliding_window", None):
        # A default of the class; llama.cpp attends to the whole text in these architectures.
        config.sliding_window = None
    with torch.device("meta"):
        fresh = type(model)(config)
    fresh.load_state_dict(model.state_dict(), assign=True)
    fresh.tie_weights()
    fresh.generation_config = _generation(config, found)
    fresh.save_pretrained(folder)


def _generation(config: Any, found: GgufModel) -> GenerationConfig:
    """Ends at the end of the text, and at that of a turn where the file names another token."""
    generation = GenerationConfig.from_model_config(config)
    names = ("eos", "eot", "eom")
    ids = [found.fields.get(f"tokenizer.ggml.{name}_token_id") for name in names]
    ends = list(dict.fromkeys(each for each in ids if each is not None))
    if ends:
        generation.eos_token_id = ends[0] if len(ends) == 1 else ends
    return generation
