"""Findings of `cogcalib doctor`, and the checks of what is installed and at hand."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import Requirement

OK, NOTE, BROKEN = "ok", "note", "broken"
"""As it should be; missing, but needed only for some things; in the way of what was asked."""

SHOWN = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers")
"""Packages whose version is shown; of the others only what is wrong."""

NOT_FOR_USERS = ("dev", "atlas")
"""Extras for those who work on cogcalib itself."""

HUB_TIMEOUT = 3.0
"""Seconds to wait for the hub."""

AWAY = "cannot be reached"

LITTLE_SPACE = 10 * 2**30
"""Bytes below which the room for models is remarked upon."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        section: What it belongs to, such as ``packages``.
        name: What was looked at.
        state: `OK`, `NOTE` or `BROKEN`.
        text: What was found.
        remedy: The command, or what else mends it; empty where nothing is to be done.
    """

    section: str
    name: str
    state: str
    text: str
    remedy: str = ""


def environment() -> Iterator[Finding]:
    """Everything that does not depend on a model."""
    with ThreadPoolExecutor(1) as pool:
        # Waited for while torch is imported.
        asked = pool.submit(lambda: list(_hub()))
        yield from _packages()
        yield from _extras()
        yield from _devices()
        yield from asked.result()
    yield from _folders()


@contextmanager
def reachable(found: Sequence[Finding]) -> Iterator[None]:
    """Around what may ask the hub: only its cache is looked into where the hub did not answer.

    Every file would be asked for again and again.
    """
    from cogcalib.hub import taken_for_away

    away = any(each.section == "hub" and each.text.startswith(AWAY) for each in found)
    with taken_for_away() if away else nullcontext():
        yield


def _packages() -> Iterator[Finding]:
    yield Finding("packages", "python", OK, platform.python_version())
    try:
        needed = [Requirement(each) for each in requires("cogcalib") or ()]
        yield Finding("packages", "cogcalib", OK, version("cogcalib"))
    except PackageNotFoundError:
        remedy = "pip install -e . in its checkout"
        text = "runs without being installed: which versions it supports is not known"
        yield Finding("packages", "cogcalib", NOTE, text, remedy)
        return
    for each in needed:
        if _extra_of(each) is not None:
            continue
        state, text = _installed(each)
        if state == OK and each.name not in SHOWN:
            continue
        remedy = f'pip install "{each.name}{each.specifier}"' if state == BROKEN else ""
        yield Finding("packages", each.name, state, text, remedy)


def _extras() -> Iterator[Finding]:
    """What optional features lack."""
    try:
        needed = [Requirement(each) for each in requires("cogcalib") or ()]
    except PackageNotFoundError:
        return
    extras: dict[str, list[Requirement]] = {}
    for each in needed:
        extra = _extra_of(each)
        if extra is not None and extra not in NOT_FOR_USERS:
            extras.setdefault(extra, []).append(each)
    for extra, parts in extras.items():
        found = {each.name: _installed(each) for each in parts}
        wrong = [f"{name} {text}" for name, (state, text) in found.items() if state != OK]
        if wrong:
            remedy = f'pip install "cogcalib[{extra}]"'
            yield Finding("extras", extra, NOTE, "; ".join(wrong), remedy)
        else:
            there = ", ".join(f"{name} {text}" for name, (_, text) in found.items())
            yield Finding("extras", extra, OK, there)


def _extra_of(requirement: Requirement) -> str | None:
    """The extra that a requirement belongs to; None if everybody needs it."""
    marker = str(requirement.marker or "")
    _, found, rest = marker.partition("extra == ")
    return rest.split()[0].strip("\"'()") if found else None


def _installed(requirement: Requirement) -> tuple[str, str]:
    """State and version of a package, against what is supported."""
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return BROKEN, f"is not installed, {requirement.specifier or 'any version'} is needed"
    if requirement.specifier.contains(found, prereleases=True):
        return OK, found
    return BROKEN, f"{found} is outside of what is supported, {requirement.specifier}"


def _devices() -> Iterator[Finding]:
    import torch

    memory, free = _memory()
    cores = f"{os.cpu_count()} cores"
    text = f"{cores}, {_gib(memory)} of memory, {_gib(free)} free" if memory else cores
    yield Finding("devices", "processor", OK, text)
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            free, total = torch.cuda.mem_get_info(index)
            bf16 = "bf16" if properties.major >= 8 else "no bf16: add bf16=False, fp16=True"
            text = f"{properties.name}, {_gib(total)}, {_gib(free)} free, {bf16}"
            yield Finding("devices", f"cuda:{index}", OK, text)
    elif shutil.which("nvidia-smi"):
        text = f"the driver is there, but torch {torch.__version__} sees no GPU"
        remedy = "install a CUDA build of torch that fits the driver: https://pytorch.org"
        yield Finding("devices", "cuda", NOTE, text, remedy)
    else:
        text = "no GPU; training is on the CPU"
        yield Finding("devices", "cuda", OK, text)


def _memory() -> tuple[int, int]:
    """Bytes of memory, and of what is free; 0 where the system does not tell."""
    names = ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES", "SC_PAGE_SIZE")
    known = getattr(os, "sysconf_names", {})
    if any(name not in known for name in names):
        return 0, 0
    total, free, size = (os.sysconf(name) for name in names)
    return total * size, free * size


def _hub() -> Iterator[Finding]:
    from huggingface_hub import constants, get_session, get_token

    host = urlsplit(constants.ENDPOINT).hostname or "the hub"
    if constants.HF_HUB_OFFLINE:
        text = "not asked, HF_HUB_OFFLINE is set: only what is in the cache can be loaded"
        yield Finding("hub", host, NOTE, text)
    else:
        begun = time.perf_counter()
        try:
            get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT)
        except Exception as error:  # whichever HTTP client the hub's library has
            text = f"{AWAY}: {type(error).__name__}"
            remedy = "HF_ENDPOINT names a mirror; HF_HUB_OFFLINE=1 takes what is in the cache"
            yield Finding("hub", host, NOTE, text, remedy)
        else:
            milliseconds = 1000 * (time.perf_counter() - begun)
            yield Finding("hub", host, OK, f"reached in {milliseconds:.0f} ms")
    if get_token() is None:
        text = "none; gated models need one"
        yield Finding("hub", "token", NOTE, text, "hf auth login")
    else:
        yield Finding("hub", "token", OK, "there")


def _folders() -> Iterator[Finding]:
    from huggingface_hub import constants

    from cogcalib.modeling import ATLAS, atlas_cache, resolve_model
    from cogcalib.tasks.loading import DATA_FOLDER

    named = os.environ.get(DATA_FOLDER)
    if not named:
        text = f"{DATA_FOLDER} is not set: data sets come from the hub"
        yield Finding("folders", "data", OK, text)
    elif not Path(named).is_dir():
        text = f"{DATA_FOLDER} names {named}, which is no folder"
        yield Finding("folders", "data", BROKEN, text, f"export {DATA_FOLDER}=FOLDER")
    else:
        text = f"{named}, {sum(1 for _ in Path(named).iterdir())} entries"
        yield Finding("folders", "data", OK, text)
    for name, folder in (
        ("models of the hub", Path(constants.HF_HUB_CACHE)),
        ("variants of atlas", atlas_cache()),
        ("here", Path.cwd()),
    ):
        free = shutil.disk_usage(_existing(folder)).free
        little = free < LITTLE_SPACE
        remedy = "hf cache prune, or HF_HOME names another disk" if little else ""
        text = f"{folder}, {_gib(free)} free"
        yield Finding("folders", name, NOTE if little else OK, text, remedy)
    try:
        resolve_model(next(iter(ATLAS)))
    except ValueError as error:
        text = f"the embedded model is not there: {error}"
        yield Finding("folders", "atlas", BROKEN, text, "pip install --force-reinstall cogcalib")


def _existing(folder: Path) -> Path:
    """The nearest folder there is."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def _gib(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB"
