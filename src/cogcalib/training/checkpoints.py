"""Checkpoints: finding the one to go on from, making one, loading one whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from cogcalib.training.state import STATE_NAME


def last_complete_checkpoint(directory: Path | str, gate: str) -> str | None:
    """The newest checkpoint in `directory` that was written to its end, or None.

    transformers writes ``trainer_state.json`` last, so a folder without a readable one is what a
    kill during saving left behind.

    Args:
        directory: The run's output folder; it need not exist.
        gate: Every gate but ``none`` also needs what the run knew of its thresholds.
    """
    prefix = f"{PREFIX_CHECKPOINT_DIR}-"
    steps = [
        int(number)
        for folder in Path(directory).glob(f"{prefix}*")
        if (number := folder.name.removeprefix(prefix)).isdecimal()
    ]
    for step in sorted(steps, reverse=True):
        folder = Path(directory) / f"{prefix}{step}"
        knows = gate == "none" or (folder / STATE_NAME).is_file()
        if knows and _is_json(folder / TRAINER_STATE_NAME):
            return str(folder)
    return None


def checkpoint_to_resume(
    wanted: str | Path | bool | None, directory: Path | str, gate: str
) -> str | None:
    """The checkpoint that ``resume_from_checkpoint=wanted`` means, or None to begin anew.

    Raises:
        ValueError: If `wanted` is True and `directory` has no complete checkpoint.
    """
    if wanted is not True:
        return str(wanted) if wanted else None
    last = last_complete_checkpoint(directory, gate)
    if last is None:
        raise ValueError(f"resume_from_checkpoint=True, but {directory} has no complete one")
    return last


def load_whole(model: PreTrainedModel, folder: str, load_result: Any) -> None:
    """Load the weights of a checkpoint again where some did not find their place.

    transformers saves some architectures under other names than the model's own (GPT-NeoX, mixtures
    of experts), loads a checkpoint by the model's, and only warns of the rest: training would go on
    from weights that are partly the initial ones.

    Args:
        model: Into which a checkpoint was loaded.
        folder: Of the checkpoint.
        load_result: The missing and unexpected keys.

    Raises:
        RuntimeError: If there are weights missing that way, too.
    """
    tied = set(model.all_tied_weights_keys)
    if set(load_result.missing_keys) <= tied and not load_result.unexpected_keys:
        return
    whole = type(model).from_pretrained(folder, dtype=model.dtype)
    model.load_state_dict(whole.state_dict())


def begin_checkpoint(folder: Path) -> Path:
    """Make `folder`; an older one of that name counts as incomplete while it is overwritten."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TRAINER_STATE_NAME).unlink(missing_ok=True)
    return folder


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return True
