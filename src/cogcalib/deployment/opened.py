"""A saved model, opened to be asked: adapter, whole model, hub id, or one that a server has."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transformers.utils.hub import cached_file

from cogcalib.artifacts import read_json
from cogcalib.deployment.calibration_file import FILE, Calibration, ModelIdentity, tokenizer_hash
from cogcalib.deployment.identity import identify
from cogcalib.inference.backend import Backend
from cogcalib.inference.backend_loading import check_backend, load_backend
from cogcalib.inference.backend_spec import BackendSpec
from cogcalib.modeling import ATLAS, load_tokenizer
from cogcalib.modeling.model_files import ADAPTER, TOKENIZERS, checked_folder
from cogcalib.records import InputError, input_errors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelAccess:
    """How a saved model is asked.

    Each text under Attributes is the help of an option of commands that ask one.

    Attributes:
        base: Model that an adapter sits on, a folder, a hub id, or atlas; if not given, the one
            that its files name.
        dtype: Number format of the weights.
        four_bit: Weights in 4 bits (bitsandbytes).
        device: Where to put the model, such as cpu or cuda:0; a GPU if there is one.
        batch_size: Most sequences in one forward pass; as many as fit if not given.
        endpoint: Address of a server that has the model, such as http://localhost:8000/v1; it is
            asked, and the folder is read for its calibration alone.
        served_name: Name under which the server has the model.
        tokenizer: Folder or hub id of the tokenizer of the endpoint's model; the folder's own if
            not given.
        api_key_env: Environment variable of the key; OPENAI_API_KEY if not given.
        concurrency: Requests at once; 8 if not given.
        timeout: Seconds to wait for an answer; 120 if not given.
        top_logprobs: How many most probable tokens are asked for; 20 if not given.

    Raises:
        ValueError: If something is asked for that does not go together.
    """

    base: str | None = None
    dtype: str = "float32"
    four_bit: bool = False
    device: str | None = None
    batch_size: int | None = None
    endpoint: str | None = None
    served_name: str | None = None
    tokenizer: str | None = None
    api_key_env: str | None = None
    concurrency: int | None = None
    timeout: float | None = None
    top_logprobs: int | None = None

    def __post_init__(self) -> None:
        if (self.endpoint is None) != (self.served_name is None):
            raise ValueError(
                "endpoint and served_name go together: where the server is, and what it calls the "
                f"model; got {self.endpoint!r} and {self.served_name!r}"
            )
        if self.endpoint is not None and self.device is not None:
            raise ValueError("device cannot be used with an endpoint")
        self.spec("")

    def spec(self, model: str, adapter: str | None = None) -> BackendSpec:
        """What to load or to ask; raises ValueError as `BackendSpec`."""
        here = self.endpoint is None
        return BackendSpec(
            model=model if here else str(self.served_name),
            adapter=adapter if here else None,
            dtype=self.dtype,
            four_bit=self.four_bit,
            batch_size=self.batch_size,
            endpoint=self.endpoint,
            tokenizer=self.tokenizer,
            api_key_env=self.api_key_env,
            concurrency=self.concurrency,
            timeout=self.timeout,
            top_logprobs=self.top_logprobs,
        )


@dataclass(frozen=True, slots=True)
class SavedModel:
    """Where a saved model is.

    Attributes:
        source: Folder or hub id, as it is loaded.
        folder: The folder; None for one on the hub and an embedded one.
        adapter: Whether it is an adapter.
    """

    source: str
    folder: Path | None
    adapter: bool

    @property
    def name(self) -> str:
        """As messages name it."""
        return self.source

    def file(self, name: str) -> Path | None:
        """One of its files, from the hub if need be; None if it has none of that name."""
        if self.source in ATLAS:
            return None
        if self.folder is not None:
            path = self.folder / name
            return path if path.is_file() else None
        return _hub_file(self.source, name)


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A model that can be asked.

    Attributes:
        backend: The model.
        identity: What its calibration knows it by.
        saved: Where it lies.
    """

    backend: Backend
    identity: ModelIdentity
    saved: SavedModel


def find_model(path: str | Path) -> SavedModel:
    """Find a saved model.

    Raises:
        InputError: If there is none, naming adapters that lie below the folder.
    """
    with input_errors():
        source = checked_folder(str(path), "model")
    if source in ATLAS:
        return SavedModel(source, None, adapter=False)
    folder = Path(source)
    if not folder.is_dir():
        return SavedModel(source, None, adapter=_hub_file(source, ADAPTER[0]) is not None)
    adapter = (folder / ADAPTER[0]).is_file()
    if not adapter and not (folder / "config.json").is_file():
        below = sorted(file.parent for file in folder.rglob(ADAPTER[0]))
        hint = f"; give the folder of one model, such as {below[0]}" if below else ""
        raise InputError(
            f"{folder} holds no model: neither {ADAPTER[0]} nor config.json lies there{hint}"
        )
    return SavedModel(source, folder, adapter)


def open_model(
    saved: SavedModel,
    access: ModelAccess,
    calibration: Calibration | None = None,
    check: object = None,
) -> OpenedModel:
    """Open a model, whether or not it was calibrated.

    Args:
        saved: Where it is.
        access: How it is asked.
        calibration: Its calibration, if it has one: it may name the base of an adapter.
        check: Called with the model's identity before any weights are read; raises to refuse it.

    Raises:
        ValueError: If the base of an adapter is not found, or as `load_backend`.
        EndpointError: If the endpoint does not answer.
    """
    base = base_model(saved, access.base, calibration) if saved.adapter else saved.source
    if access.base is not None and not saved.adapter:
        raise InputError(f"base is for adapters, and {saved.name} is a whole model; leave it out")
    spec = access.spec(base, saved.source if saved.adapter else None)
    check_backend(spec)
    tokenizer = _tokenizer(saved, base, access)
    if access.endpoint is not None:
        identity = ModelIdentity(str(access.served_name), None, None, tokenizer_hash(tokenizer))
    else:
        identity = identify(base, tokenizer)
    if callable(check):
        check(identity)
    return OpenedModel(load_backend(spec, access.device, tokenizer), identity, saved)


def base_model(saved: SavedModel, given: str | None, calibration: Calibration | None) -> str:
    """The model that an adapter sits on: the one given, or the one that its files name.

    Raises:
        InputError: If it is not there, saying where it was looked for.
    """
    if given is not None:
        return given
    config = saved.file(ADAPTER[0])
    named = read_json(config, dict).get("base_model_name_or_path") if config else None
    noted = calibration.model.name if calibration is not None else None
    for name in (named, noted):
        # A name without a folder's path may be one on the hub.
        if isinstance(name, str) and (name in ATLAS or os.path.isdir(name) or _on_hub(name)):
            return name
    raise InputError(
        f"{saved.name} is an adapter, and its base model is not at {named or noted or '(no name)'}"
        "; name it with base"
    )


def _on_hub(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def _tokenizer(saved: SavedModel, base: str, access: ModelAccess) -> PreTrainedTokenizerBase:
    """The tokenizer that was saved with the model, else that of its base."""
    own = access.tokenizer is None and any(saved.file(name) for name in TOKENIZERS)
    return load_tokenizer(access.tokenizer or (saved.source if own else base))


def _hub_file(source: str, name: str) -> Path | None:
    try:
        found = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"model {source!r} is no folder, and the hub cannot give its {name}: {error}"
        ) from error
    return Path(found) if found is not None else None


def calibration_folder(saved: SavedModel) -> Path:
    """Where a model's calibration lies; the folder alone where it has none.

    Raises:
        InputError: If it has none, and no folder to look into.
    """
    if saved.folder is not None:
        return saved.folder
    found = saved.file(FILE)
    if found is None:
        raise InputError(
            f"{saved.name} has no {FILE}; `cogcalib recalibrate` measures it and writes one into a "
            "folder, which is then given as calibration"
        )
    return found.parent
