"""PEFT adapters: checked against a model by their files, then put on top of it."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from peft import (
    MODEL_TYPE_TO_PEFT_MODEL_MAPPING,
    PeftConfig,
    PeftModel,
    set_peft_model_state_dict,
)
from peft.utils.save_and_load import load_peft_weights
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from cogcalib.artifacts import read_json
from cogcalib.modeling.model_files import (
    ADAPTER,
    checked_source,
    fingerprint,
    no_adapter,
    public_name,
    resolve_model,
)
from cogcalib.modeling.old_names import old_names
from cogcalib.records import write_json

BASE_RECORD = "base_model.json"
"""Beside an adapter: `fingerprint` of the model that it was trained on."""

_RUN_RECORD = "model.json"  # of a run folder, three folders above its adapters
_PREFIX = "base_model.model."
_NAME = "checked_adapter"
_PROMPTS = "prompt_embeddings"  # all that is saved of learnt prompts
# Tensors that PEFT keeps under several names and saves under one, or loads on another way.
_SHARED = ("prompt_encoder", "vblora_vector_bank", ".tinylora_v.", ".unilora_theta_d.")


def check_adapter(adapter: str | Path, model: str | Path) -> str:
    """Check that an adapter belongs to a model, before any weights of the model are read.

    Args:
        adapter: Local folder or hub id.
        model: The model it is to be put on, as `load_model` takes it.

    Returns:
        The adapter's folder or hub id.

    Raises:
        ValueError: If there is no adapter in safetensors, its tensors are not those that its
            configuration puts into the model, or it was trained on another model.
    """
    source = checked_source(str(adapter), "adapter", ADAPTER[0])
    _check_safetensors(source)
    config = _read_config(source)
    few = _check_tensors(source, config, resolve_model(str(model)))
    if not _is_of(source, config, str(model)) and few:
        warnings.warn(f"adapter {source} {few}; is {model} what it was trained on?", stacklevel=3)
    return source


def revision_of_base(adapter: str | Path) -> str | None:
    """The commit or tag of the model on the hub that an adapter was trained on, if it names one.

    Raises:
        ValueError: If there is no adapter, or its configuration cannot be read.
    """
    source = checked_source(str(adapter), "adapter", ADAPTER[0])
    revision: str | None = _read_config(source).revision
    return revision


def with_adapter(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    """A model with an adapter on top that `check_adapter` has passed."""
    try:
        with old_names():
            adapted: Any = PeftModel.from_pretrained(model, adapter)
    except RuntimeError as error:
        raise ValueError(f"adapter {adapter} does not fit the model: {error}") from error
    return cast(PreTrainedModel, adapted)  # it passes everything on to the model inside


def adapter_hash(folder: Path) -> str | None:
    """Hash of an adapter's weights and of what its configuration does with them.

    The name of its base and what PEFT notes beside it do not count, so that an adapter stays the
    same wherever its base lies.

    Returns:
        None if there is no adapter in safetensors.
    """
    config, weights = (folder / name for name in ADAPTER)
    if not config.is_file() or not weights.is_file():
        return None
    settings = read_json(config, dict)
    for name in ("base_model_name_or_path", "revision", "inference_mode", "auto_mapping"):
        settings.pop(name, None)
    settings.pop("peft_version", None)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    with weights.open("rb") as content:
        digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def sort_targets(folder: Path) -> None:
    """Put the modules that a saved adapter changes in order: PEFT writes a set as it comes, and the
    same training would leave another file each time."""
    path = folder / ADAPTER[0]
    settings = read_json(path, dict)
    if isinstance(settings.get("target_modules"), list):
        settings["target_modules"].sort()
        write_json(path, settings)


def record_base(folder: Path, base: Mapping[str, str | None]) -> None:
    """Note beside an adapter which model it was trained on.

    Args:
        folder: Of the adapter.
        base: `fingerprint` of the model; of a local folder the last part alone is written.
    """
    write_json(folder / BASE_RECORD, {**base, "path": public_name(str(base["path"]))})


def _check_safetensors(adapter: str) -> None:
    """PEFT falls back on a pickle where the safetensors file is missing, so look first."""
    from huggingface_hub import file_exists

    if os.path.isdir(adapter):
        found = (Path(adapter) / ADAPTER[1]).is_file()
    else:
        try:
            found = file_exists(adapter, ADAPTER[1])
        except Exception as error:  # whichever HTTP client the hub's library has
            raise ValueError(
                f"adapter {adapter} is no folder, and the hub could not be asked for it: {error}"
            ) from error
    if not found:
        raise no_adapter(adapter)


def _read_config(adapter: str) -> PeftConfig:
    try:
        config: PeftConfig = PeftConfig.from_pretrained(adapter)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"adapter {adapter}: {ADAPTER[0]} cannot be read, get it anew: {error}"
        ) from error
    return config


def _check_tensors(adapter: str, config: PeftConfig, model: str) -> str:
    """Load the adapter into the model's bare structure and see what is missing or left over.

    Returns:
        That it leaves the model's last layers alone, if it does.
    """
    bare = bare_model(model)
    try:
        weights = load_peft_weights(
            adapter,
            device="cpu",
            key_mapping=None
            if config.is_prompt_learning
            else getattr(bare, "_checkpoint_conversion_mapping", {}),
        )
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"adapter {adapter}: {ADAPTER[1]} cannot be read, get it anew: {error}"
        ) from error
    _check_vocabulary(adapter, weights, bare, model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # there is nothing to copy into
            found: Any = set_peft_model_state_dict(
                _put_in(bare, config), weights, adapter_name=_NAME, low_cpu_mem_usage=True
            )
    except KeyError as error:  # PEFT's, of parts that were trained whole
        raise ValueError(
            f"adapter {adapter} does not fit the model {model}: it lacks the tensor {error}"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"adapter {adapter} does not fit the model {model}: {_in_a_line(error)}"
        ) from error
    missing = [
        name.replace(f".{_NAME}", "")
        for name in found.missing_keys
        if f".{_NAME}" in name and not any(shared in name for shared in _SHARED)
    ]
    own = {_PROMPTS} if config.is_prompt_learning else set()
    missing += own - weights.keys()
    if missing:
        raise ValueError(
            f"adapter {adapter} does not fit the model {model}: it lacks tensors, {len(missing)} "
            f"in number, the first {missing[0]}; parts of it are gone, or the model has other or "
            "more layers than the one that it was trained on"
        )
    if unexpected := [name for name in found.unexpected_keys if name not in own]:
        raise ValueError(
            f"adapter {adapter} does not fit the model {model}: it has tensors without a place, "
            f"{len(unexpected)} in number, the first {unexpected[0].replace(f'.{_NAME}', '')}; "
            "they were renamed, or the model has other or fewer layers than the one that it was "
            "trained on"
        )
    layers = getattr(bare.config.get_text_config(), "num_hidden_layers", 0)
    numbers = [int(part) for key in weights for part in key.split(".") if part.isdecimal()]
    last = max(numbers, default=layers) + 1
    return f"reaches {last} of {layers} layers" if last < layers else ""


def bare_model(model: str) -> PreTrainedModel:
    """The model without memory for its weights."""
    local = os.path.isdir(model)
    config = AutoConfig.from_pretrained(model, trust_remote_code=False, local_files_only=local)
    with torch.device("meta"):
        bare: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return bare


def _put_in(bare: PreTrainedModel, config: PeftConfig) -> PeftModel:
    config.inference_mode = True
    if getattr(config, "init_lora_weights", None) is not None:
        cast(Any, config).init_lora_weights = False  # drawing them may take the model's weights
    kind = MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(cast(str, config.task_type), PeftModel)
    with old_names():
        return kind(bare, config, _NAME, low_cpu_mem_usage=True)


def _check_vocabulary(
    adapter: str, weights: dict[str, torch.Tensor], bare: PreTrainedModel, model: str
) -> None:
    """Raise where the adapter brings embeddings or a head of another vocabulary."""
    ends = (bare.get_input_embeddings(), bare.get_output_embeddings())
    size = cast(torch.Tensor, bare.get_input_embeddings().weight).shape[0]
    names = {name for name, module in bare.named_modules() if any(module is each for each in ends)}
    for key, weight in weights.items():
        name, _, kind = key.removeprefix(_PREFIX).rpartition(".")
        if name in names and kind == "weight" and weight.shape[0] != size:
            raise ValueError(
                f"adapter {adapter} was trained with a vocabulary of {weight.shape[0]} tokens, the "
                f"model {model} has {size}: resize the model's embeddings as before the training, "
                "save it with its tokenizer and give that folder as model"
            )


def _is_of(adapter: str, config: PeftConfig, model: str) -> bool:
    """Whether it is known that the adapter is of this model.

    Raises where it is known to be of another, and warns where names alone do not tell.
    """
    own = fingerprint(model)
    for record in _records(adapter):
        noted = _read_record(record)
        if noted.get("sha256") and own["sha256"]:
            if noted["sha256"] != own["sha256"]:
                raise ValueError(
                    f"adapter {adapter} was trained on {noted.get('path')}, whose weights, "
                    f"tokenizer or configuration are not those of the model {model} (by {record}); "
                    "give the model that it was trained on"
                )
            return True
    named = config.base_model_name_or_path
    if not named:
        return False
    if _same_name(named, model):
        return True
    hint = f"if it is the same model, correct base_model_name_or_path in its {ADAPTER[0]}"
    wrong = f"adapter {adapter} was trained on {named}, not on the model {model}; {hint}"
    folders = os.path.isdir(named), own["sha256"] is not None
    if all(folders):
        try:
            same = fingerprint(named)["sha256"] == own["sha256"]
        except ValueError:  # no model lies there any more
            same = False
        if not same:
            raise ValueError(wrong)
        return True
    if not any(folders) and not Path(named).is_absolute():
        raise ValueError(wrong)
    warnings.warn(
        f"adapter {adapter} was trained on {named}; whether that is the model {model} cannot be "
        f"told, only that its tensors fit; {hint}",
        stacklevel=4,
    )
    return False


def _records(adapter: str) -> list[Path]:
    """What was noted of the model trained on: beside the adapter, or for its run."""
    if not os.path.isdir(adapter):
        return []
    folder = Path(adapter).resolve()
    found = [folder / BASE_RECORD]
    if len(folder.parents) > 2 and folder.parents[1].name == "train":
        found.append(folder.parents[2] / _RUN_RECORD)
    return [path for path in found if path.is_file()]


def _read_record(path: Path) -> dict[str, Any]:
    return read_json(path, dict, "remove it, and the model is not checked by it")


def _same_name(named: str, model: str) -> bool:
    """Whether two names mean one model: the same text or folder, or a hub id and its copy."""
    source = resolve_model(model)
    if named in (model, source) or os.path.realpath(named) == os.path.realpath(source):
        return True
    hub = named.lower() if named.count("/") == 1 and not named.startswith((".", "/")) else None
    if not os.path.isdir(source):
        return hub == source.lower()
    parts = [part.lower() for part in Path(source).resolve().parts]
    # The cache of the hub keeps owner and name in a folder's name.
    return hub is not None and (
        f"models--{hub.replace('/', '--')}" in parts or parts[-1] == hub.split("/")[1]
    )


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
