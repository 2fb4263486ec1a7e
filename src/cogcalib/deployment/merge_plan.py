"""The plan of a merge: what goes into what, checked before any weights are read."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerBase

from cogcalib.artifacts import check_writable
from cogcalib.deployment.calibration_file import (
    FILE,
    OPTIONS,
    AnswerFormat,
    Calibration,
    read_calibration,
)
from cogcalib.deployment.gguf import check_softcap
from cogcalib.deployment.identity import check_identity, identify
from cogcalib.deployment.inputs import to_questions
from cogcalib.deployment.opened import (
    SavedModel,
    base_model,
    calibrated_dtype,
    calibration_folder,
    find_model,
)
from cogcalib.modeling import load_tokenizer, resolve_model
from cogcalib.modeling.adapters import bare_model, check_adapter
from cogcalib.modeling.model_files import TOKENIZERS, checked_source
from cogcalib.modeling.number_format import most_stored
from cogcalib.records import DTYPES, InputError


@dataclass(frozen=True, slots=True)
class MergePlan:
    """What `cogcalib.deployment.merging.merge` does.

    Attributes:
        saved: The model merged from, an adapter or whole.
        base: The model whose weights are read: folder or hub id.
        tokenizer: Folder or hub id of the tokenizer: the adapter's own if it was saved with it.
        out: Folder to be made.
        dtype: Number format of the merged weights, one of `cogcalib.records.DTYPES`.
        calibration: That of the model merged from.
        temperature: What goes into the weights; None if nothing does.
        weights: Bytes of the merged weights.
        disk: Bytes needed on disk.
        memory: Bytes of memory needed at once, beside what the program itself takes.
    """

    saved: SavedModel
    base: str
    tokenizer: str
    out: Path
    dtype: str
    calibration: Calibration
    temperature: float | None
    weights: int
    disk: int
    memory: int


def plan_merge(
    path: str | Path,
    out: Path,
    *,
    base: str | None = None,
    dtype: str | None = None,
    keep_temperature: bool = False,
    gguf: bool = False,
) -> MergePlan:
    """Check everything that can be checked before weights are read.

    Args:
        path: Folder or hub id of an adapter or of a whole model, with `calibration.json`.
        out: Folder to be made.
        base: The model that the adapter sits on, if the adapter's own record does not say.
        dtype: Number format of the merged weights; None: that in which the model was
            calibrated, so that its confidences stay; where it is not known, that of the base's
            stored weights.
        keep_temperature: Leave a temperature in `calibration.json`.
        gguf: Whether the merged model is to be converted afterwards (`cogcalib.deployment.gguf`).

    Raises:
        ValueError: If there is no such model, adapter or base, the calibration is of another, the
            output exists, the disk is too small, or the temperature cannot go into weights.
    """
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    _check_new(out)
    saved = find_model(path)
    folder = calibration_folder(saved)
    calibration = read_calibration(folder)
    base = _base_of(saved, base, calibration)
    own = any(saved.file(name) for name in TOKENIZERS)
    tokenizer_source = saved.source if own else base
    tokenizer = load_tokenizer(tokenizer_source)
    check_identity(calibration, identify(base, tokenizer, saved.adapter_folder()), folder)
    if saved.adapter:
        _check_mergeable(saved.source)
        check_adapter(saved.source, base)
    stored = stored_dtype(base)
    dtype = dtype or calibrated_dtype(calibration) or stored
    temperature = None if keep_temperature else _temperature(calibration, tokenizer)
    if gguf and temperature is not None:
        check_softcap(_config(base))
    weights, memory = _sizes(base, stored, dtype)
    disk = 2 * weights if gguf else weights
    _check_disk(out, disk)
    return MergePlan(
        saved=saved,
        base=base,
        tokenizer=tokenizer_source,
        out=out,
        dtype=dtype,
        calibration=calibration,
        temperature=temperature,
        weights=weights,
        disk=disk,
        memory=memory,
    )


def stored_dtype(model: str) -> str:
    """The number format that most of a model's weights are stored in.

    Raises:
        InputError: If that is none of `cogcalib.records.DTYPES`: they are quantised.
    """
    source = checked_source(resolve_model(model), "model", "config.json")
    config = _config(model)
    quantised = getattr(config, "quantization_config", None) is not None
    named = str(config.dtype or "float32").removeprefix("torch.")  # of a model on the hub
    dtype = (most_stored(source) if os.path.isdir(source) else "") or named
    if quantised or dtype not in DTYPES:
        raise InputError(
            f"the weights of {model} are quantised, and nothing can be merged into them: an "
            "adapter goes into the model that they were made from, named with --base"
        )
    return dtype


def _config(model: str) -> PretrainedConfig:
    source = resolve_model(model)
    config: PretrainedConfig = AutoConfig.from_pretrained(
        source, trust_remote_code=False, local_files_only=os.path.isdir(source)
    )
    return config


def _check_new(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise InputError(f"{out} already exists; choose another output")
    check_writable(out)


def _base_of(saved: SavedModel, given: str | None, calibration: Calibration) -> str:
    """The model whose weights are read."""
    if not saved.adapter:
        if given is not None:
            raise InputError(f"--base is for adapters, and {saved.source} is a whole model")
        return saved.source
    base = base_model(saved, given, calibration)
    checked_source(resolve_model(base), "base model", "config.json")
    return base


def _check_mergeable(adapter: str) -> None:
    config = PeftConfig.from_pretrained(adapter)
    if config.is_prompt_learning:
        raise InputError(
            f"adapter {adapter} is of the kind {config.peft_type}: learnt prompts are input, and "
            "cannot go into weights"
        )


def _temperature(calibration: Calibration, tokenizer: PreTrainedTokenizerBase) -> float | None:
    """The temperature that goes into the weights; None if the map is none or of another method.

    A temperature in the weights divides the logits of the whole vocabulary. Over options that are
    tokens at one position its normaliser cancels, and ``softmax(log p / T)`` over them is left,
    which is the map. Options of several tokens have a normaliser at each, and it does not cancel.

    Raises:
        InputError: If it is a map over options of several tokens, or that is not known.
    """
    fitted, answers = calibration.map, calibration.answers
    if fitted is None or fitted.method != "temperature":
        return None
    if answers.kind != OPTIONS:
        raise InputError(f"{FILE}: a temperature acts on options, and the answers are generated")
    one_token = fitted.one_token
    if one_token is None:
        one_token = _options_of_one_token(answers, tokenizer)
    if not one_token:
        known = (
            "whether its options are tokens at one position is not known, as calibration.json "
            "records none"
            if one_token is None
            else "it was fitted over options of several tokens"
        )
        raise InputError(
            f"the temperature cannot go into the weights: {known}, and a temperature of the "
            "vocabulary is another one there. --keep-temperature leaves it in calibration.json"
        )
    return float(fitted.parameters["temperature"])


def _options_of_one_token(answers: AnswerFormat, tokenizer: PreTrainedTokenizerBase) -> bool | None:
    """Whether the recorded options, or the letters of the preset, are tokens at one position."""
    if answers.options is not None:
        asked: dict[str, Any] = {"prompt": "Question\nAnswer:"}
    elif answers.preset is not None:
        asked = {"question": "Question", "options": ["one", "two", "three", "four"]}
    else:
        return None
    (question,) = to_questions([asked], tokenizer, answers)
    return question.one_token


def _sizes(model: str, stored: str, dtype: str) -> tuple[int, int]:
    """Bytes of the merged weights, and of the memory that takes at most.

    At most: the files, which are mapped, the merged weights, and of those in half precision the
    head in float32.
    """
    bare: Any = bare_model(resolve_model(model))
    read, written = (getattr(torch, each).itemsize for each in (stored, dtype))
    count = sum(each.numel() for each in bare.parameters())
    head = bare.get_output_embeddings()
    wide = 0 if head is None or written > 2 else 4 * head.weight.numel()
    return count * written, count * (read + written) + wide


def _check_disk(out: Path, needed: int) -> None:
    folder = out.absolute().parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{out} needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in {folder}"
        )
