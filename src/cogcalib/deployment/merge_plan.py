"""The plan of a merge: what goes into what, checked before any weights are read."""

from __future__ import annotations

import math
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from safetensors import safe_open
from transformers import AutoConfig

from cogcalib.artifacts import check_writable, read_json
from cogcalib.deployment.calibration_file import (
    OPTIONS,
    Calibration,
    FittedMap,
    ModelIdentity,
    check_identity,
    read_calibration,
    tokenizer_hash,
)
from cogcalib.modeling import fingerprint, load_tokenizer, resolve_model
from cogcalib.modeling.adapters import bare_model, check_adapter
from cogcalib.modeling.model_files import ADAPTER, checked_source
from cogcalib.records import DTYPES, InputError

_STORED = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class MergePlan:
    """What `cogcalib.deployment.merge.merge` does.

    Attributes:
        source: Folder with `calibration.json`.
        base: The model whose weights are read: folder or hub id.
        adapter: The adapter's folder; None if `source` is a whole model.
        out: Folder to be made.
        dtype: Number format of the merged weights, one of `cogcalib.records.DTYPES`.
        calibration: As it lies in `source`.
        temperature: What goes into the weights; None if nothing does.
        weights: Bytes of the merged weights.
        disk: Bytes needed on disk.
        memory: Bytes of memory needed at once.
    """

    source: Path
    base: str
    adapter: str | None
    out: Path
    dtype: str
    calibration: Calibration
    temperature: float | None
    weights: int
    disk: int
    memory: int


def plan_merge(
    source: Path,
    out: Path,
    *,
    base: str | None = None,
    dtype: str | None = None,
    keep_temperature: bool = False,
    gguf: bool = False,
) -> MergePlan:
    """Check everything that can be checked before weights are read.

    Args:
        source: Folder of an adapter or of a whole model, with `calibration.json`.
        out: Folder to be made.
        base: The model that the adapter sits on, if the adapter's own record does not say.
        dtype: Number format of the merged weights; None: that of the base's stored weights.
        keep_temperature: Leave a temperature in `calibration.json`.
        gguf: Whether the merged model is to be converted afterwards (`cogcalib.deployment.gguf`).

    Raises:
        ValueError: If there is no such model, adapter or base, the calibration is of another, the
            output exists, the disk is too small, or the temperature cannot go into weights.
    """
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if not source.is_dir():
        raise InputError(f"model folder {source} does not exist")
    _check_new(out)
    calibration = read_calibration(source)
    adapter = str(source) if (source / ADAPTER[0]).is_file() else None
    base = _base_of(source, base) if adapter else _no_base(source, base)
    _check_identity(calibration, base, source)
    if adapter:
        _check_mergeable(adapter)
        check_adapter(adapter, base)
    dtype = dtype or stored_dtype(base)
    temperature = None if keep_temperature else _temperature(calibration.map, calibration, source)
    weights, memory = _sizes(base, getattr(torch, dtype).itemsize)
    _check_disk(out, weights)
    return MergePlan(source, base, adapter, out, dtype, calibration, temperature, weights, memory)


def stored_dtype(model: str) -> str:
    """The number format that most of a model's weights are stored in.

    Raises:
        InputError: If that is none of `cogcalib.records.DTYPES`: they are quantised.
    """
    source = checked_source(resolve_model(model), "model", "config.json")
    local = os.path.isdir(source)
    config = AutoConfig.from_pretrained(source, trust_remote_code=False, local_files_only=local)
    quantised = getattr(config, "quantization_config", None) is not None
    found: Counter[str] = Counter()
    for file in sorted(Path(source).glob("*.safetensors")) if local else ():
        with safe_open(file, "pt") as tensors:  # its header alone
            for name in tensors.keys():  # noqa: SIM118, a file and no mapping
                part = tensors.get_slice(name)
                found[part.get_dtype()] += math.prod(part.get_shape())
    named = str(config.dtype or "float32").removeprefix("torch.")  # of a model on the hub
    dtype = _STORED.get(found.most_common(1)[0][0], "") if found else named
    if quantised or dtype not in DTYPES:
        raise InputError(
            f"the weights of {model} are quantised, and nothing can be merged into them: give the "
            "model that they were made from with --base"
        )
    return dtype


def _check_new(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise InputError(f"{out} already exists; choose another output")
    check_writable(out)


def _base_of(source: Path, given: str | None) -> str:
    """The base model of an adapter."""
    base = given or read_json(source / ADAPTER[0], dict).get("base_model_name_or_path")
    if not base:
        raise InputError(f"{source / ADAPTER[0]} does not name its base model; give it with --base")
    try:
        return checked_source(resolve_model(base), "model", "config.json") and base
    except ValueError as error:
        raise InputError(f"the base of adapter {source}: {error}; give it with --base") from error


def _no_base(source: Path, given: str | None) -> str:
    if given is not None:
        raise InputError(f"--base is for adapters, and {source} is a whole model")
    checked_source(str(source), "model", "config.json")
    return str(source)


def _check_identity(calibration: Calibration, base: str, source: Path) -> None:
    found = fingerprint(base)
    tokenizer = tokenizer_hash(load_tokenizer(base))
    own = ModelIdentity(Path(base).name, found["sha256"], found["commit"], tokenizer)
    check_identity(calibration, own, source)


def _check_mergeable(adapter: str) -> None:
    config = PeftConfig.from_pretrained(adapter)
    if config.is_prompt_learning:
        raise InputError(
            f"adapter {adapter} is of the kind {config.peft_type}: learnt prompts are input, and "
            "cannot go into weights"
        )


def _temperature(fitted: FittedMap | None, calibration: Calibration, source: Path) -> float | None:
    """The temperature that goes into the weights; None if the map is none or of another method."""
    if fitted is None or fitted.method != "temperature":
        return None
    return float(fitted.parameters["temperature"])


def _sizes(model: str, itemsize: int) -> tuple[int, int]:
    """Bytes of the weights, and of the memory needed with the head's copy in float32."""
    bare: Any = bare_model(resolve_model(model))
    weights = sum(each.numel() for each in bare.parameters()) * itemsize
    head = bare.get_output_embeddings()
    return weights, weights + (0 if head is None or itemsize > 2 else head.weight.numel() * 8)


def _check_disk(out: Path, needed: int) -> None:
    folder = out.absolute().parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{out} needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in {folder}"
        )
