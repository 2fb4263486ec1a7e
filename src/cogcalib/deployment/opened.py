"""A saved model, opened to be asked: adapter, whole model, hub id, or one that a server has."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import constants, is_offline_mode
from transformers.utils.hub import cached_file

from cogcalib.artifacts import check_writable, read_json
from cogcalib.deployment.access import ModelAccess
from cogcalib.deployment.calibration_file import FILE, Calibration, ModelIdentity, tokenizer_hash
from cogcalib.deployment.identity import identify
from cogcalib.deployment.seen_questions import CALIBRATED_ON
from cogcalib.deployment.seen_questions import FILE as SEEN
from cogcalib.hub import HERE, mind_the_network
from cogcalib.inference.backend import Backend
from cogcalib.inference.backend_loading import check_backend, load_backend, settled
from cogcalib.inference.backend_spec import BackendSpec
from cogcalib.inference.experimental.endpoint_backend import served_length
from cogcalib.modeling import load_tokenizer
from cogcalib.modeling.adapters import BASE_RECORD
from cogcalib.modeling.model_files import (
    ADAPTER,
    TOKENIZERS,
    check_one_model,
    checked_folder,
    in_a_line,
)
from cogcalib.modeling.model_spec import read_model_spec
from cogcalib.records import AUTO, DTYPES, InputError, input_errors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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

    @property
    def no_folder(self) -> str:
        """What to say of one that has no folder to write into or read from."""
        embedded = self.source in HERE
        return f"{self.source} {'is an embedded model' if embedded else 'is no folder'}"

    def file(self, name: str) -> Path | None:
        """One of its files, from the hub if need be; None if it has none of that name."""
        if self.source in HERE:
            return None
        if self.folder is not None:
            path = self.folder / name
            return path if path.is_file() else None
        return _hub_file(self.source, name)

    def adapter_folder(self) -> Path | None:
        """Where an adapter's files lie, fetched from the hub if need be; None of a whole model."""
        if not self.adapter or self.folder is not None:
            return self.folder if self.adapter else None
        files = [self.file(name) for name in ADAPTER]
        return files[0].parent if files[0] is not None else None


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


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model that was found and identified, its weights not yet read.

    Attributes:
        spec: What is to be loaded.
        device: Where to.
        tokenizer: That was saved with it, else that of its base.
        identity: What its calibration knows it by.
        saved: Where it lies.
    """

    spec: BackendSpec
    device: str | None
    tokenizer: PreTrainedTokenizerBase
    identity: ModelIdentity
    saved: SavedModel

    @property
    def precision(self) -> str:
        """As `Calibration.precision` has it; empty behind an endpoint, of which it is not known."""
        if self.spec.endpoint is not None:
            return ""
        return f"4-bit {self.spec.dtype}" if self.spec.four_bit else self.spec.dtype

    def positions(self) -> int | None:
        """Most tokens that a prompt and its answer may take, None if there is no known limit."""
        server = self.spec.server()
        return served_length(server) if server else read_model_spec(self.spec.model).positions

    def load(self) -> OpenedModel:
        """Read the weights, or reach out for the server; raises as `load_backend`."""
        backend = load_backend(self.spec, self.device, self.tokenizer)
        return OpenedModel(backend, self.identity, self.saved)


def find_model(path: str | Path) -> SavedModel:
    """Find a saved model.

    Raises:
        InputError: If there is none, naming adapters that lie below the folder, or two.
    """
    with input_errors():
        source = checked_folder(str(path), "model")
    if source in HERE:
        return SavedModel(source, None, adapter=False)
    folder = Path(source)
    if not folder.is_dir():
        return SavedModel(source, None, adapter=_hub_file(source, ADAPTER[0]) is not None)
    with input_errors():
        check_one_model(folder)
    adapter = (folder / ADAPTER[0]).is_file()
    if not adapter and not (folder / "config.json").is_file():
        below = sorted(file.parent for file in folder.rglob(ADAPTER[0]))
        hint = f"; give the folder of one model, such as {below[0]}" if below else ""
        raise InputError(
            f"{folder} holds no model: neither {ADAPTER[0]} nor config.json lies there{hint}"
        )
    return SavedModel(source, folder, adapter)


def open_model(
    saved: SavedModel, access: ModelAccess, calibration: Calibration | None = None
) -> OpenedModel:
    """Open a model, whether or not it was calibrated; see `identify_model`."""
    return identify_model(saved, access, calibration).load()


def identify_model(
    saved: SavedModel, access: ModelAccess, calibration: Calibration | None = None
) -> FoundModel:
    """Identify a model before its weights are read.

    Args:
        saved: Where it is.
        access: How it is asked.
        calibration: Its calibration, if it has one: it may name the base of an adapter.

    Raises:
        ValueError: If the base of an adapter is not found, or as `check_backend`, `fingerprint` and
            `load_tokenizer`.
    """
    if access.base is not None and not saved.adapter:
        raise InputError(f"base is for adapters, and {saved.source} is none; leave it out")
    base = base_model(saved, access.base, calibration) if saved.adapter else saved.source
    spec = access.spec(base, saved.source if saved.adapter else None)
    check_backend(spec)
    spec = settled(_as_calibrated(spec, calibration), access.device)
    tokenizer = _tokenizer(saved, base, access)
    if access.endpoint is not None:
        identity = ModelIdentity(str(access.served_name), None, None, tokenizer_hash(tokenizer))
    else:
        identity = identify(base, tokenizer, saved.adapter_folder())
    return FoundModel(spec, access.device, tokenizer, identity, saved)


def _as_calibrated(spec: BackendSpec, calibration: Calibration | None) -> BackendSpec:
    """In the number format that the model was calibrated in, unless another is named."""
    made_in = calibrated_dtype(calibration)
    if spec.endpoint is not None or spec.dtype != AUTO or made_in is None:
        return spec
    return replace(spec, dtype=made_in)


def calibrated_dtype(calibration: Calibration | None) -> str | None:
    """The number format of the weights that a model was calibrated with; None if not known."""
    made_in = calibration.precision.rpartition(" ")[2] if calibration is not None else ""
    return made_in if made_in in DTYPES else None


def base_model(saved: SavedModel, given: str | None, calibration: Calibration | None) -> str:
    """The model that an adapter sits on: the one given, or the one that its files name.

    Raises:
        InputError: If it is not there, saying where it was looked for.
    """
    if given is not None:
        return given
    config, record = saved.file(ADAPTER[0]), saved.file(BASE_RECORD)
    named = read_json(config, dict).get("base_model_name_or_path") if config else None
    noted = calibration.model.name if calibration is not None else None
    if noted is None and record is not None:
        noted = read_json(record, dict).get("path")
    for name in (named, noted):
        # A name without a folder's path may be one on the hub.
        if isinstance(name, str) and (name in HERE or os.path.isdir(name) or _on_hub(name)):
            return name
    where = f"is not at {named or noted}" if named or noted else "has no name"
    raise InputError(f"{saved.source} is an adapter, and its base model {where}; name it with base")


def _on_hub(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def _tokenizer(saved: SavedModel, base: str, access: ModelAccess) -> PreTrainedTokenizerBase:
    """The tokenizer that was saved with the model, else that of its base."""
    own = access.tokenizer is None and any(saved.file(name) for name in TOKENIZERS)
    return load_tokenizer(access.tokenizer or (saved.source if own else base))


def _hub_file(source: str, name: str) -> Path | None:
    mind_the_network()
    try:
        found = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"model {source!r} is no folder, and the hub cannot give its {name}: {in_a_line(error)}"
        ) from error
    return Path(found) if found is not None else None


def calibration_folder(saved: SavedModel) -> Path:
    """Where a model's calibration lies, with the questions it has seen; the folder alone where it
    has none.

    Raises:
        InputError: If it has none, and no folder to look into.
    """
    if saved.folder is not None:
        return saved.folder
    found = saved.file(FILE)
    if found is None:
        unasked = ", for the hub cannot be reached" if is_offline_mode() else ""
        lacking = f"no {FILE} is found under that name{unasked}"
        if saved.source in HERE:
            lacking = f"has no {FILE}"
        raise InputError(
            f"{saved.no_folder}, and {lacking}; `cogcalib recalibrate` measures a model and writes "
            "one into a folder, which is then given as calibration"
        )
    for name in (SEEN, CALIBRATED_ON):  # fetched one by one
        saved.file(name)
    return found.parent


def check_changeable(saved: SavedModel, folder: Path | None) -> Path:
    """The folder that a changed calibration is written into, after checking that it can be.

    Args:
        saved: The model.
        folder: What was asked for; None: the model's own.

    Raises:
        InputError: If a model on the hub has no folder of its own, or it lies among the files that
            were fetched from the hub: these are the hub's.
    """
    chosen = folder or saved.folder
    remedy = "name a folder for its calibration with output"
    if chosen is None:
        raise InputError(f"{saved.no_folder}; {remedy}")
    if chosen.resolve().is_relative_to(Path(constants.HF_HUB_CACHE).resolve()):
        raise InputError(f"{chosen} was fetched from the hub and stays as it is; {remedy}")
    check_writable(chosen / FILE)
    return chosen
