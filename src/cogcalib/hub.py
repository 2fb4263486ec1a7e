"""The Hugging Face hub: whether it can be reached, before its client tries for a minute."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from time import monotonic
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants

from cogcalib.records import InputError
from cogcalib.suggest import did_you_mean, folder_meant

PATIENCE = 5.0
"""Seconds that the hub has to answer."""

AGAIN = 60.0
"""Seconds after which a hub that did not answer is asked again: each file of a model asks."""

HERE = ("atlas", "atlas-mistral", "atlas-qwen2", "smollm2")
"""Names of models that no hub is asked for."""

MODEL_FILES = ("config.json", "adapter_config.json", "calibration.json")
"""Of which a folder that a command is given has one."""

_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?")

_set_here = False
_not_before = 0.0


def mind_the_network() -> None:
    """Let the hub's client look into its cache alone while the hub cannot be reached.

    Without a network it would try every file six times, half a minute each. Called before anything
    is fetched; behind a proxy nothing can be found out so simply, and nothing is done.
    """
    global _set_here, _not_before
    if (constants.HF_HUB_OFFLINE and not _set_here) or "https" in getproxies():
        return
    if _set_here and monotonic() < _not_before:
        return
    offline = not _answers()
    _not_before = monotonic() + AGAIN
    if offline == _set_here:
        return
    _set_here = offline
    constants.HF_HUB_OFFLINE = offline
    if "datasets" in sys.modules:
        sys.modules["datasets"].config.HF_HUB_OFFLINE = offline


@contextmanager
def taken_for_away() -> Iterator[None]:
    """Around work while it is known that the hub does not answer: only its cache is looked into."""
    global _set_here, _not_before
    before = constants.HF_HUB_OFFLINE, _set_here
    if not constants.HF_HUB_OFFLINE:
        constants.HF_HUB_OFFLINE = _set_here = True
        _not_before = monotonic() + AGAIN
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, _set_here = before


def check_reachable(*names: str | None) -> None:
    """Refuse names of models that only the hub can have while it cannot be reached.

    Asked before torch and transformers are imported, which takes longer than to find this out.
    Names of a folder, or of what the hub's cache has something of, are left to whoever opens them.

    Raises:
        InputError: Naming the first that cannot be had.
    """
    for name in filter(None, names):
        if name in HERE or name.lower().endswith(".gguf") or not _is_id(name):
            continue
        cached = Path(constants.HF_HUB_CACHE, f"models--{name.replace('/', '--')}")
        if Path(name).exists() or cached.exists():
            continue
        if why := why_away():
            raise InputError(no_model_here(name, why))


def no_model_here(name: str, why: str) -> str:
    """What to say of a model that neither a folder nor the hub's cache has.

    Args:
        name: Of the model.
        why: Why the hub was not asked, see `why_away`.
    """
    meant = did_you_mean(name, HERE) or folder_meant(name, *MODEL_FILES)
    return f"{name} is no folder here, nor in the hub's cache, and {why}{meant}"


def _is_id(name: str) -> bool:
    """Whether a name may be one of the hub, which has none that are longer."""
    return len(name) <= 96 and _ID.fullmatch(name) is not None


def check_data_reachable(name: str) -> None:
    """The same for a data set, ``owner/name``.

    Raises:
        InputError: If it cannot be had.
    """
    owner, _, _ = name.partition("/")
    prepared = Path(os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME, "datasets"))
    fetched = Path(constants.HF_HUB_CACHE, f"datasets--{name.replace('/', '--')}")
    if fetched.exists() or any(prepared.glob(f"{owner}___*")):
        return
    if why := why_away():
        raise InputError(
            f"the data set {name} is not in the hub's cache, and {why}; a local copy is read where "
            "data_dir (--data-dir) or COGCALIB_DATA names its folder"
        )


def why_away() -> str:
    """Why nothing can be fetched; empty if the hub can be reached."""
    mind_the_network()
    if not constants.HF_HUB_OFFLINE:
        return ""
    return f"{constants.ENDPOINT} cannot be reached" if _set_here else "HF_HUB_OFFLINE is set"


def _answers() -> bool:
    place = urlsplit(constants.ENDPOINT)
    found: list[bool] = []

    def connect() -> None:
        port = place.port or (80 if place.scheme == "http" else 443)
        try:
            with socket.create_connection((place.hostname or "", port), timeout=PATIENCE):
                found.append(True)
        except OSError:
            pass

    # A name that cannot be looked up may take longer than any timeout of a socket.
    asked = Thread(target=connect, daemon=True)
    asked.start()
    asked.join(PATIENCE)
    return bool(found)
