"""Load a causal language model, its tokenizer and, if asked, a LoRA adapter on top.

Only safetensors weights are read and no code from a model's repository is run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
)
from transformers.utils.hub import cached_file, extract_commit_hash

from cogcalib.records import DTYPES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ATLAS = {"atlas": "llama", "atlas-mistral": "mistral", "atlas-qwen2": "qwen2"}
"""Name of an embedded model -> its architecture."""

_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")

_IDENTIFYING = {"config.json", "tokenizer.json", "tokenizer_config.json"}

_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")


def resolve_model(name: str) -> str:
    """The folder of an embedded Atlas model, or `name` unchanged if it names none.

    The package ships some variants; the others are looked up where
    ``python -m cogcalib.atlas.pretrain`` puts them, ``$XDG_CACHE_HOME/cogcalib/atlas/ARCH``
    (``~/.cache`` where the variable is not set).

    Raises:
        ValueError: If the variant is neither shipped nor built yet.
    """
    if name not in ATLAS:
        return name
    arch = ATLAS[name]
    shipped = Path(str(resources.files("cogcalib"))) / "atlas" / "models" / arch
    built = atlas_cache() / arch
    for folder in (shipped, built):
        if (folder / "config.json").is_file():
            return str(folder)
    raise ValueError(
        f"the model {name!r} is neither shipped nor in {built}: "
        f"`python -m cogcalib.atlas.pretrain --arch {arch}` builds it"
    )


def atlas_cache() -> Path:
    """Where Atlas variants live that the user built."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "cogcalib" / "atlas"


def load_model(
    path_or_id: str | Path,
    *,
    adapter: str | Path | None = None,
    dtype: str = "float32",
    device: str | torch.device | None = None,
    four_bit: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model in evaluation mode and its tokenizer.

    Args:
        path_or_id: A local folder, a Hugging Face hub id, or one of `ATLAS`.
        adapter: Local folder or hub id of a PEFT adapter to put on top.
        dtype: Number format of the weights in memory, one of `cogcalib.records.DTYPES`, whatever
            they are stored in.
        device: Where to put the model; None takes this process's CUDA device if there is one, else
            the CPU.
        four_bit: Keep the linear layers' weights in 4 bits (bitsandbytes' NF4, double
            quantisation) and compute in `dtype`.

    Returns:
        The model (with an adapter: a `PeftModel`, which answers like one) and its tokenizer, whose
        padding token is the end token where it had none.

    Raises:
        ValueError: If the dtype or device is unknown, a folder does not exist or holds no model or
            adapter in safetensors, the hub has no such model, or bitsandbytes is needed and not
            installed.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    target = _device(device)
    quantized = _four_bit(getattr(torch, dtype), target) if four_bit else {}
    source = _checked_source(resolve_model(str(path_or_id)), "model", "config.json")
    if adapter is not None:
        adapter = _checked_source(str(adapter), "adapter", _ADAPTER[0])
    tokenizer = load_tokenizer(path_or_id)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=os.path.isdir(source),
            **quantized,
        )
    except OSError as error:
        raise _not_found(source, error) from error
    whole: PreTrainedModel = model if adapter is None else _with_adapter(model, adapter)
    module: torch.nn.Module = whole
    # A quantised model was put there while loading and must not be moved.
    (module if four_bit else module.to(target)).eval()
    return whole, tokenizer


def load_tokenizer(path_or_id: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model; its padding token is the end token where it had none.

    A folder may hold the tokenizer alone.

    Raises:
        ValueError: If a folder does not exist or holds no tokenizer, or the hub has no such model.
    """
    source = _checked_folder(resolve_model(str(path_or_id)), "model")
    if os.path.isdir(source) and not any(Path(source, name).is_file() for name in _TOKENIZERS):
        raise ValueError(
            f"model folder {source} has no tokenizer: none of {', '.join(_TOKENIZERS)}"
        )
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source, trust_remote_code=False, local_files_only=os.path.isdir(source)
        )
    except OSError as error:
        raise _not_found(source, error) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def fingerprint(path_or_id: str | Path) -> dict[str, str | None]:
    """What identifies a model: the hash of its weights and tokenizer, or its commit on the hub.

    Returns:
        ``path`` as given, ``sha256`` over a local folder's safetensors, tokenizer and config
        files, ``commit`` of a hub model; what does not apply is None.

    Raises:
        ValueError: As `load_model`.
    """
    source = _checked_source(resolve_model(str(path_or_id)), "model", "config.json")
    if not os.path.isdir(source):
        commit = getattr(AutoConfig.from_pretrained(source), "_commit_hash", None)
        return {"path": str(path_or_id), "sha256": None, "commit": commit}
    files = [
        file
        for file in sorted(Path(source).iterdir())
        if file.suffix in (".safetensors", ".model") or file.name in _IDENTIFYING
    ]
    return {"path": str(path_or_id), "sha256": _hash(files), "commit": None}


def fingerprint_adapter(path_or_id: str | Path) -> dict[str, str | None]:
    """What identifies a PEFT adapter: the hash of its weights and config, or its commit on the hub.

    Returns:
        As `fingerprint`.

    Raises:
        ValueError: If a folder does not exist or holds no adapter in safetensors, or the hub has
            none of that name.
    """
    source = _checked_source(str(path_or_id), "adapter", _ADAPTER[0])
    if not os.path.isdir(source):
        try:
            file = cached_file(source, _ADAPTER[0])
        except OSError as error:
            raise ValueError(
                f"adapter {source!r} is no folder with an adapter, or the hub cannot give it: "
                f"{error}"
            ) from error
        return {"path": source, "sha256": None, "commit": extract_commit_hash(file, None)}
    files = [Path(source) / name for name in _ADAPTER]
    if not files[1].is_file():
        raise _no_adapter(source)
    return {"path": str(path_or_id), "sha256": _hash(files), "commit": None}


def _hash(files: Sequence[Path]) -> str:
    """Of the names and contents of files."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def _no_adapter(source: str) -> ValueError:
    return ValueError(f"adapter {source} has no {_ADAPTER[1]}; pickled weights are refused")


def _not_found(source: str, error: OSError) -> ValueError:
    return ValueError(
        f"model {source!r} is no folder with a model, or the hub cannot give it: {error}"
    )


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


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        # Under torchrun and accelerate every process owns the device of its local rank.
        rank = os.environ.get("LOCAL_RANK", "0")
        return torch.device(f"cuda:{rank}" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device must be a torch device such as cpu, got {device!r}") from error


def _checked_source(source: str, what: str, config: str) -> str:
    """Check what can be checked of a folder before anything is loaded; hub ids pass."""
    source = _checked_folder(source, what)
    folder = Path(source)
    if not folder.is_dir():
        return source
    if not (folder / config).is_file():
        hint = ""
        if (folder / _ADAPTER[0]).is_file():
            hint = " (an adapter lies there: name its base model and pass it as adapter)"
        raise ValueError(f"{what} folder {source} has no {config}{hint}")
    if not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"{what} folder {source} holds no weights in safetensors; pickled weights are refused"
        )
    return source


def _checked_folder(source: str, what: str) -> str:
    """A folder that is there, or what may be a hub id."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return str(folder)
    looks_local = folder.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1
    if folder.exists() or looks_local:
        problem = "is a file, not a folder" if folder.exists() else "does not exist"
        raise ValueError(f"{what} folder {source} {problem}")
    return source


def _with_adapter(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    from huggingface_hub import file_exists
    from peft import PeftModel

    # PEFT falls back on a pickle where the safetensors file is missing, so look first.
    weights = _ADAPTER[1]
    if os.path.isdir(adapter):
        found = (Path(adapter) / weights).is_file()
    else:
        try:
            found = file_exists(adapter, weights)
        except Exception as error:  # whichever HTTP client the hub's library has
            raise ValueError(
                f"adapter {adapter} is no folder, and the hub could not be asked for it: {error}"
            ) from error
    if not found:
        raise _no_adapter(adapter)
    try:
        adapted: Any = PeftModel.from_pretrained(model, adapter)
        return cast(PreTrainedModel, adapted)  # it passes everything on to the model inside
    except RuntimeError as error:
        raise ValueError(f"adapter {adapter} does not fit the model: {error}") from error
