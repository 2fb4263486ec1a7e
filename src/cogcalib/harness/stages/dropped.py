"""Trained weights that were removed to save disk: what they were, and that they are to be made anew
where they are asked for again."""

from __future__ import annotations

from pathlib import Path

from cogcalib.records import write_json

MARK = "weights_dropped.json"
"""Beside what is left of a training: its log, thresholds and records."""


def drop_weights(folder: Path) -> int:
    """Remove the weights of a finished training; returns how many bytes they took."""
    files = sorted(folder.glob("*.safetensors"))
    sizes = {file.name: file.stat().st_size for file in files}
    # First the mark: whoever is killed in between has dropped them, too.
    write_json(folder / MARK, {"files": sizes})
    for file in files:
        file.unlink()
    return sum(sizes.values())


def were_dropped(folder: Path) -> bool:
    """Whether a training is finished and its weights are gone."""
    return (folder / MARK).is_file()
