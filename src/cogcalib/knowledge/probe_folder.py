"""A probe's folder: whose it is, and when it may be taken over."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cogcalib.artifacts import read_json
from cogcalib.modeling.shots import Prompt, Prompts
from cogcalib.owned_folder import CONFIG, OwnedFolder
from cogcalib.records import InputError
from cogcalib.yaml_files import dump_yaml, parse_yaml, read_yaml

PARTS = "parts"
"""Folder of the finished parts, as long as not all are."""

_INPUTS, _PROMPTS = "inputs.json", "prompts.json"


def claim(
    path: Path,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Any],
    prompts: Prompts,
    check: Callable[[], None],
) -> Path:
    """Note in a folder which probe it holds, or make sure that it holds this one.

    A folder of another probe is taken over as long as no row of it is finished.

    Args:
        path: The folder.
        settings: What decides the results, as YAML has it.
        inputs: Fingerprints of model, adapter and data, as JSON has them.
        prompts: Of every group.
        check: Called before a probe is begun, not when one is gone on with; raises what is wrong.

    Raises:
        FolderError: If the folder holds rows of another probe, or something else.
    """
    if _without_rows(path, settings):
        check()
        for name in (CONFIG, _INPUTS, _PROMPTS):
            (path / name).unlink(missing_ok=True)
        if (path / PARTS).exists():
            shutil.rmtree(path / PARTS)
    folder = OwnedFolder.begin(path, dump_yaml(dict(settings)), resume=True, reread=_as_today)
    folder.claim(_INPUTS, dict(inputs))
    shown = {group: [_named(prompt) for prompt in drawn] for group, drawn in prompts.items()}
    folder.claim(_PROMPTS, shown)
    return folder.path


def read_claim(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and fingerprints of the inputs of the probe that a folder holds, see `claim`.

    Raises:
        ValueError: If it holds no probe's.
    """
    inputs, config = path / _INPUTS, path / CONFIG
    if not (inputs.is_file() and config.is_file()):
        raise ValueError(f"{path} is no folder of a `cogcalib probe`")
    settings, found = read_yaml(config), read_json(inputs, dict)
    if not (isinstance(settings, dict) and isinstance(found, dict)):
        raise ValueError(f"{path} is no folder of a `cogcalib probe`")
    return settings, found


def _as_today(held: str) -> str:
    try:
        return dump_yaml(parse_yaml(held, CONFIG))
    except InputError:
        return held


def _without_rows(path: Path, settings: Mapping[str, Any]) -> bool:
    """Whether nothing is there, or a probe that was cut off before a row of it was finished."""
    names = {each.name for each in path.iterdir()} if path.is_dir() else set()
    if not names:
        return not path.is_file()
    if CONFIG not in names or not names <= {CONFIG, _INPUTS, _PROMPTS, PARTS}:
        return False
    try:
        held = read_yaml(path / CONFIG)
    except InputError:
        return False
    # Other commands leave a folder of that form, too.
    ours = isinstance(held, dict) and held.keys() == settings.keys()
    return ours and not any((path / PARTS).rglob("*.parquet"))


def _named(prompt: Prompt) -> dict[str, Any]:
    reserve = prompt.reserve.id if prompt.reserve is not None else None
    return {"shots": [shot.id for shot in prompt.shots], "reserve": reserve}
