"""Load a causal language model, its tokenizer and, if asked, a LoRA adapter on top.

Only safetensors weights are read and no code from a model's repository is run.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel

from cogcalib.modeling.model_files import (
    TOKENIZERS,
    check_revision,
    checked_folder,
    checked_source,
    model_not_found,
    resolve_model,
    unreadable,
)
from cogcalib.records import AUTO, DTYPES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


ATTENTION = ("eager", "sdpa", "flash_attention_2")
"""Implementations of attention, by transformers' names."""


def load_model(
    path_or_id: str | Path,
    *,
    adapter: str | Path | None = None,
    dtype: str = "float32",
    device: str | torch.device | None = None,
    four_bit: bool = False,
    attention: str | None = None,
    revision: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model in evaluation mode and its tokenizer.

    What nobody holds any longer is freed first: a model that was trained is part of cycles. Weights
    go from the file onto the device without a copy of the model in the host's memory.

    Args:
        path_or_id: A local folder, a GGUF file, a Hugging Face hub id, one of `ATLAS`, or
            ``smollm2``.
        adapter: Local folder or hub id of a PEFT adapter to put on top.
        dtype: Number format of the weights in memory, one of `cogcalib.records.DTYPES`, whatever
            they are stored in; or ``auto``, that of the stored weights. Of float16 on a CPU that is
            float32, with a warning.
        device: Where to put the model; None takes this process's CUDA device if there is one, else
            the CPU.
        four_bit: Keep the linear layers' weights in 4 bits (bitsandbytes' NF4, double
            quantisation) and compute in `dtype`.
        attention: One of `ATTENTION`; None leaves it to transformers.
        revision: Commit or tag of a model on the hub; None is that which an adapter names as its
            base's, else the main branch.

    Returns:
        The model (with an adapter: a `PeftModel`, which answers like one) and its tokenizer, whose
        padding token is the end token where it had none.

    Raises:
        ValueError: If the dtype, device or attention is unknown, a folder does not exist or holds
            no model or adapter in safetensors, weights of a model or adapter are missing or left
            over, an adapter belongs to another model, the hub has no such model, or bitsandbytes
            or flash-attn is needed and not installed.
    """
    if dtype not in (AUTO, *DTYPES):
        raise ValueError(f"dtype must be one of {', '.join((AUTO, *DTYPES))}, got {dtype!r}")
    target = chosen_device(device)
    check_revision(path_or_id, revision)
    if adapter is not None and revision is None:
        revision = _revision_of_base(adapter)
    if dtype == AUTO:
        from cogcalib.modeling.number_format import settled_dtype

        dtype, told = settled_dtype(dtype, path_or_id, target, revision=revision)
        if told:
            warnings.warn(told, stacklevel=2)
    how = _four_bit(getattr(torch, dtype), target) if four_bit else _straight_onto(target)
    how |= _attention(attention)
    _free_unused()
    source = checked_source(resolve_model(str(path_or_id)), "model", "config.json")
    if adapter is not None:
        adapter = _checked_adapter(adapter, path_or_id)
    if revision is not None and not os.path.isdir(source):
        how["revision"] = revision
    tokenizer = load_tokenizer(path_or_id, revision)
    model = _read_whole(source, dtype=getattr(torch, dtype), **how)
    whole: PreTrainedModel = model if adapter is None else _with_adapter(model, str(adapter))
    module: torch.nn.Module = whole
    # A quantised model was put there while loading and must not be moved.
    (module if four_bit else module.to(target)).eval()
    return whole, tokenizer


def load_tokenizer(path_or_id: str | Path, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model; its padding token is the end token where it had none.

    A folder may hold the tokenizer alone; `revision` is of a model on the hub.

    Raises:
        ValueError: If a folder does not exist or holds no tokenizer, or the hub has no such model.
    """
    source = checked_folder(resolve_model(str(path_or_id)), "model")
    if os.path.isdir(source) and not any(Path(source, name).is_file() for name in TOKENIZERS):
        raise ValueError(f"model folder {source} has no tokenizer: none of {', '.join(TOKENIZERS)}")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source,
            trust_remote_code=False,
            local_files_only=os.path.isdir(source),
            revision=revision or "main",
        )
    except OSError as error:
        raise model_not_found(source, error) from error
    except Exception as error:  # the tokenizers library has no other kind
        raise unreadable(source, error, "its tokenizer or config.json") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _four_bit(dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` takes besides to load weights in 4 bits."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(
            'weights in 4 bits need bitsandbytes: pip install "cogcalib[4bit]" '
            "(or pip install bitsandbytes)"
        )
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": settings, "device_map": {"": device}}


def _attention(name: str | None) -> dict[str, str]:
    """What `from_pretrained` takes besides for an implementation of attention."""
    if name is None:
        return {}
    if name not in ATTENTION:
        raise ValueError(f"attention must be one of {', '.join(ATTENTION)}, got {name!r}")
    if name == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
        raise ValueError("attention flash_attention_2 needs flash-attn: pip install flash-attn")
    return {"attn_implementation": name}


def _straight_onto(device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` takes besides to read weights where they will be used."""
    return {} if device.type == "cpu" else {"device_map": {"": device}}


def _free_unused() -> None:
    """Free models that only cycles hold, and what torch keeps of a GPU's memory for its own use."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def chosen_device(device: str | torch.device | None = None) -> torch.device:
    """The device that `load_model` puts a model on; raises ValueError as it."""
    if device is None:
        # Under torchrun and accelerate every process owns the device of its local rank.
        rank = os.environ.get("LOCAL_RANK", "0")
        return torch.device(f"cuda:{rank}" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device must be a torch device such as cpu, got {device!r}") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device must be one that is there, got {device!r}: torch sees "
            f"{torch.cuda.device_count()} CUDA devices"
        )
    return chosen


def _read_whole(source: str, **how: Any) -> PreTrainedModel:
    """The model of a folder or the hub, every weight of which was in its files.

    Raises:
        ValueError: If there is none, a file is damaged, weights are missing, or the files hold
            weights of further layers or of an adapter.
    """
    load: Any = AutoModelForCausalLM.from_pretrained
    try:
        model, found = load(
            source,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=os.path.isdir(source),
            output_loading_info=True,
            **how,
        )
    except OSError as error:
        raise model_not_found(source, error) from error
    except SafetensorError as error:
        raise unreadable(source, error, "its weights") from error
    except RuntimeError as error:
        if "mismatch" not in str(error):
            raise
        raise ValueError(
            f"model {source}: its weights have other shapes than its config.json says; correct "
            "config.json, or get the whole model"
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        # Of an architecture or a quantisation that is not known here, or a broken index.
        raise unreadable(source, error) from error
    layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    if layers is not None and layers < 1:
        raise ValueError(f"model {source}: its config.json asks for {layers} layers, at least 1")
    if missing := sorted(found["missing_keys"]):
        raise ValueError(
            f"model {source}: its files lack {len(missing)} weights that its config.json asks for, "
            f"the first {missing[0]}; they would be drawn at random. Get the whole model"
        )
    if more := _left_over(model, found["unexpected_keys"]):
        raise ValueError(
            f"model {source}: its files hold {len(more)} weights that its config.json has no place "
            f"for, the first {more[0]}; correct config.json, or merge the adapter into the model"
        )
    whole: PreTrainedModel = model
    return whole


def _left_over(model: PreTrainedModel, unexpected: Any) -> list[str]:
    """Of weights without a place those that would change what the model computes.

    Heads of other tasks and buffers of older versions are not among them.
    """
    own = {re.sub(r"\d+", "#", name) for name, _ in model.named_parameters()}
    return sorted(
        name
        for name in unexpected
        if re.sub(r"\d+", "#", name) in own or ".lora_" in name or ".base_layer." in name
    )


def _checked_adapter(adapter: str | Path, model: str | Path) -> str:
    from cogcalib.modeling.adapters import check_adapter  # PEFT takes a second to import

    return check_adapter(adapter, model)


def _revision_of_base(adapter: str | Path) -> str | None:
    from cogcalib.modeling.adapters import revision_of_base

    return revision_of_base(adapter)


def _with_adapter(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    from cogcalib.modeling.adapters import with_adapter

    return with_adapter(model, adapter)
