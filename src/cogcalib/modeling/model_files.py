"""The files of models and adapters: where they lie, what must be there, what identifies them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from transformers import AutoConfig
from transformers.utils.hub import cached_file, extract_commit_hash

ATLAS = {"atlas": "llama", "atlas-mistral": "mistral", "atlas-qwen2": "qwen2"}
"""Name of an embedded model -> its architecture."""

ADAPTER = ("adapter_config.json", "adapter_model.safetensors")

_IDENTIFYING = {"config.json", "tokenizer.json", "tokenizer_config.json"}

_CACHED = "models--"  # with it begin the hub cache's folders, which owner and name make up

TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")


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


def public_name(path_or_id: str | Path) -> str:
    """A model's name without the folders of this machine: a hub id or an embedded model's name as
    it is, of a folder the last part, in the hub's cache the id again."""
    folder = Path(path_or_id).expanduser()
    for name, architecture in ATLAS.items():
        if folder.parts[-3:] == ("atlas", "models", architecture):
            return name
    if not folder.is_dir():
        return str(path_or_id)
    cached = [part for part in folder.resolve().parts if part.startswith(_CACHED)]
    if cached:
        return cached[-1].removeprefix(_CACHED).replace("--", "/")
    return folder.resolve().name


def fingerprint(path_or_id: str | Path) -> dict[str, str | None]:
    """What identifies a model: the hash of its weights and tokenizer, or its commit on the hub.

    Returns:
        ``path`` as given, ``sha256`` over a local folder's safetensors, tokenizer and config
        files, ``commit`` of a hub model; what does not apply is None.

    Raises:
        ValueError: As `load_model`.
    """
    source = checked_source(resolve_model(str(path_or_id)), "model", "config.json")
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
    source = checked_source(str(path_or_id), "adapter", ADAPTER[0])
    if not os.path.isdir(source):
        try:
            file = cached_file(source, ADAPTER[0])
        except OSError as error:
            raise ValueError(
                f"adapter {source!r} is no folder with an adapter, or the hub cannot give it: "
                f"{error}"
            ) from error
        return {"path": source, "sha256": None, "commit": extract_commit_hash(file, None)}
    files = [Path(source) / name for name in ADAPTER]
    if not files[1].is_file():
        raise no_adapter(source)
    return {"path": str(path_or_id), "sha256": _hash(files), "commit": None}


def _hash(files: Sequence[Path]) -> str:
    """Of the names and contents of files."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def no_adapter(source: str) -> ValueError:
    return ValueError(f"adapter {source} has no {ADAPTER[1]}; pickled weights are refused")


def model_not_found(source: str, error: OSError) -> ValueError:
    return ValueError(
        f"model {source!r} is no folder with a model, or the hub cannot give it: {error}"
    )


def checked_source(source: str, what: str, config: str) -> str:
    """Check what can be checked of a folder before anything is loaded; hub ids pass."""
    source = checked_folder(source, what)
    folder = Path(source)
    if not folder.is_dir():
        return source
    if not (folder / config).is_file():
        hint = ""
        if (folder / ADAPTER[0]).is_file():
            hint = " (an adapter lies there: name its base model and pass it as adapter)"
        raise ValueError(f"{what} folder {source} has no {config}{hint}")
    if not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"{what} folder {source} holds no weights in safetensors; pickled weights are refused"
        )
    return source


def checked_folder(source: str, what: str) -> str:
    """A folder that is there, or what may be a hub id."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return str(folder)
    looks_local = folder.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1
    if folder.exists() or looks_local:
        problem = "is a file, not a folder" if folder.exists() else "does not exist"
        raise ValueError(f"{what} folder {source} {problem}")
    return source
