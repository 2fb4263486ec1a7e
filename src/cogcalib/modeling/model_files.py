"""The files of models and adapters: where they lie, what must be there, what identifies them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path

from transformers.utils.hub import cached_file, extract_commit_hash

from cogcalib.hub import MODEL_FILES, mind_the_network
from cogcalib.suggest import folder_meant

ATLAS = {"atlas": "llama", "atlas-mistral": "mistral", "atlas-qwen2": "qwen2"}
"""Name of an embedded model -> its architecture."""

SMOLLM2 = "smollm2"
"""Name of the model that `SMOLLM2_COMMAND` fetches."""

SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Of its GGUF file."""

SMOLLM2_COMMAND = "python -m cogcalib.modeling.smollm2"

ADAPTER = ("adapter_config.json", "adapter_model.safetensors")

_IDENTIFYING = {"config.json", "tokenizer.json", "tokenizer_config.json"}

_CACHED = "models--"

TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")


def resolve_model(name: str) -> str:
    """The folder of a model by name or in a GGUF file, or `name` unchanged if it is neither.

    The package ships some variants of Atlas; the others are looked up where
    ``python -m cogcalib.atlas.pretrain`` puts them, ``$XDG_CACHE_HOME/cogcalib/atlas/ARCH``
    (``~/.cache`` where the variable is not set). The model of a GGUF file is converted on first use
    and lies in ``cogcalib/gguf`` there.

    Raises:
        ValueError: If a variant of Atlas is neither shipped nor built yet, ``smollm2`` was not
            fetched, or a GGUF file does not exist or cannot be converted.
    """
    file = _gguf_file(name)
    if file is not None:
        from cogcalib.modeling.gguf_model import converted_gguf

        return converted_gguf(file, _cache() / "gguf")
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


def _gguf_file(name: str) -> Path | None:
    """The GGUF file that a name stands for, if it does."""
    if name == SMOLLM2:
        file = smollm2_file()
        if not file.is_file():
            raise ValueError(
                f"the model {SMOLLM2!r} was not fetched yet: `make smollm2` or "
                f"`{SMOLLM2_COMMAND}` does (93 MB)"
            )
        return file
    if not name.lower().endswith(".gguf"):
        return None
    file = Path(name).expanduser()
    if file.is_dir():
        return None
    if not file.is_file():
        raise ValueError(f"model {name} does not exist")
    return file


def smollm2_file() -> Path:
    """Where the GGUF file of SmolLM2 is kept."""
    return _cache() / "smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def atlas_cache() -> Path:
    """Where Atlas variants live that the user built."""
    return _cache() / "atlas"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cogcalib"


def public_name(path_or_id: str | Path) -> str:
    """A model's name without the path to it: ``atlas``, a hub id, or a path's last part."""
    name = str(path_or_id)
    folder = Path(name).expanduser()
    if folder.is_file() or name.lower().endswith(".gguf"):
        return folder.name
    if name in ATLAS or not folder.is_dir():
        return name
    folder = folder.resolve()
    if _converted(folder) == SMOLLM2_SHA256:
        return SMOLLM2
    for embedded in ATLAS:
        try:
            if folder == Path(resolve_model(embedded)).resolve():
                return embedded
        except ValueError:  # a variant that is not built
            continue
    # The hub's cache keeps a model's owner and name in the name of a folder.
    cached = [part for part in folder.parts if part.startswith(_CACHED)]
    return cached[-1].removeprefix(_CACHED).replace("--", "/") if cached else folder.name


def _converted(folder: Path) -> str | None:
    """The hash of the GGUF file that a folder of the cache was converted from."""
    within = folder.resolve().parent.parent == (_cache() / "gguf").resolve()
    return folder.name if within else None


def check_revision(name: str | Path, revision: str | None) -> None:
    """Check that a model of which a revision is asked may have one.

    Raises:
        ValueError: If it is no model of the hub.
    """
    if revision is None:
        return
    if _gguf_file(str(name)) is not None or os.path.isdir(resolve_model(str(name))):
        raise ValueError(
            f"revision {revision!r} is for a model on the hub, by its name there, and {name} is "
            "here; leave it out"
        )


def fingerprint(path_or_id: str | Path, revision: str | None = None) -> dict[str, str | None]:
    """What identifies a model: the hash of its weights and tokenizer, or its commit on the hub.

    Args:
        path_or_id: As `load_model` takes it.
        revision: Commit, tag or branch of a model on the hub; None is its main branch. Of a local
            one there is none to choose, and it is passed over.

    Returns:
        ``path`` as given, ``sha256`` over a local folder's safetensors, tokenizer and config
        files, or of a GGUF file (its conversion has the same); ``commit`` of a hub model; what
        does not apply is None.

    Raises:
        ValueError: As `load_model`.
    """
    if (file := _gguf_file(str(path_or_id))) is not None:
        from cogcalib.modeling.gguf_model import gguf_sha256

        return {"path": str(path_or_id), "sha256": gguf_sha256(file), "commit": None}
    source = checked_source(resolve_model(str(path_or_id)), "model", "config.json")
    if not os.path.isdir(source):
        # Not off the configuration, which no longer keeps it.
        try:
            found = cached_file(source, "config.json", revision=revision)
            commit = extract_commit_hash(found, None)
        except OSError as error:
            raise model_not_found(source, error) from error
        return {"path": str(path_or_id), "sha256": None, "commit": commit}
    if (converted := _converted(Path(source))) is not None:
        return {"path": str(path_or_id), "sha256": converted, "commit": None}
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
        held = file.stat()
        digest.update(_content_hash(file.resolve(), held.st_size, held.st_mtime_ns))
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _content_hash(file: Path, size: int, changed: int) -> bytes:
    """Read once a process as long as size and time of change stay: weights are gigabytes."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()


def no_adapter(source: str) -> ValueError:
    return ValueError(f"adapter {source} has no {ADAPTER[1]}; pickled weights are refused")


def model_not_found(source: str, error: OSError) -> ValueError:
    if os.path.isdir(source):
        return unreadable(source, error)
    return ValueError(
        f"model {source!r} is no folder with a model, or the hub cannot give it: {in_a_line(error)}"
    )


def unreadable(source: str, error: Exception, what: str = "it") -> ValueError:
    """The error for a model, or a part of it, that is damaged or of no kind that is known."""
    return ValueError(
        f"model {source}: {what} cannot be read, get it anew or correct it: {in_a_line(error)}"
    )


def in_a_line(error: Exception | str) -> str:
    """What an error says, in a line and 300 characters."""
    return " ".join(str(error).split())[:300]


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
    if config != ADAPTER[0]:
        check_one_model(folder)
    if not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"{what} folder {source} holds no weights in safetensors; pickled weights are refused"
        )
    return source


def check_one_model(folder: Path) -> None:
    """Check that a folder does not hold an adapter beside a whole model, as two trainings leave.

    Libraries would load the adapter on its base, whichever of the two was saved last.

    Raises:
        ValueError: If it holds both.
    """
    if holds_adapter(folder) and holds_whole_model(folder):
        raise ValueError(
            f"{folder} holds a whole model and an adapter ({ADAPTER[0]}), of two trainings that "
            "were saved there: remove the files of one, or save into a folder of its own"
        )


def holds_adapter(folder: Path) -> bool:
    return (folder / ADAPTER[0]).is_file()


def holds_whole_model(folder: Path) -> bool:
    return any(folder.glob("model*.safetensors"))


def checked_folder(source: str, what: str) -> str:
    """A folder that is there, or what may be a hub id."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return str(folder)
    looks_local = folder.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1
    if folder.exists() or looks_local:
        meant = folder_meant(source, *MODEL_FILES)
        problem = "is a file, not a folder" if folder.exists() else f"does not exist{meant}"
        raise ValueError(f"{what} folder {source} {problem}")
    mind_the_network()
    return source
