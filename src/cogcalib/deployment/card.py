"""The model card: `README.md` and a reliability diagram beside a saved model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from huggingface_hub import ModelCard
from jinja2 import Environment, PackageLoader, StrictUndefined

from cogcalib.deployment.calibration_file import (
    Calibration,
    ReliabilityBins,
    SplitMetrics,
    read_calibration,
)
from cogcalib.deployment.card_metadata import card_metadata
from cogcalib.deployment.card_text import CardText, markdown
from cogcalib.drawing.canvas import save_png
from cogcalib.drawing.reliability import reliability_panels
from cogcalib.metrics import ReliabilityCurve
from cogcalib.records import write_text

logger = logging.getLogger(__name__)

FILE = "README.md"
MARKER = (
    "<!-- Written by cogcalib, which writes it anew whenever it saves, recalibrates or guards the "
    "model; take this line out to keep your own card. -->"
)
WITHDRAWN = f".{FILE}"
"""Where a card of ours is put while what it is made of changes."""
_TRL = "If you had a time machine, but could only go to the past or the future once"
_PEFT = "[More Information Needed]"
_PEFT_GAPS = 30
"""Fewer are left where somebody has filled the template in."""


def write_card(
    folder: Path,
    *,
    repository: str | None = None,
    tags: Sequence[str] = (),
    datasets: Sequence[str] = (),
) -> Path | None:
    """Write the card of a saved model from the `calibration.json` beside it, atomically.

    What an earlier card of ours has in its metadata that is not written here, such as a license,
    stays. A `README.md` that somebody wrote is kept, and a warning says so.

    Args:
        folder: Of a model or an adapter.
        repository: Its name on the hub, such as ``owner/name``, if it has one.
        tags: More tags.
        datasets: Hub ids of the data trained on, if they are there.

    Returns:
        The card; None where somebody's own was kept.

    Raises:
        InputError: If there is no `calibration.json`, or it is damaged.
    """
    calibration = read_calibration(folder)
    path = folder / FILE
    withdrawn = folder / WITHDRAWN
    kept = _kept_metadata(withdrawn if withdrawn.is_file() and not path.is_file() else path)
    if kept is None:
        logger.warning(
            "%s was not written by cogcalib and is kept; remove it to have a model card with the "
            "calibration of the model",
            path,
        )
        return None
    images = _draw(folder, calibration)
    text = CardText(folder, calibration, images, repository)
    metadata = card_metadata(text, kept, tags=tags, datasets=datasets)
    environment = Environment(
        loader=PackageLoader("cogcalib.deployment"),
        finalize=markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    content = text.content(metadata=metadata, marker=MARKER)
    write_text(path, environment.get_template("card.md.j2").render(content))
    withdrawn.unlink(missing_ok=True)
    return path


def withdraw_card(folder: Path) -> None:
    """Put a card of ours aside before what it says stops being so.

    Whatever ends the program before `write_card`, no card then stands beside another calibration;
    the next `write_card` takes its metadata from there.
    """
    path = folder / FILE
    if path.is_file() and MARKER in path.read_text(encoding="utf-8", errors="replace"):
        path.replace(folder / WITHDRAWN)


def is_generated(card: str) -> bool:
    """Whether a card was written by cogcalib, TRL or PEFT, and by nobody since."""
    return MARKER in card or _TRL in card or card.count(_PEFT) >= _PEFT_GAPS


def _kept_metadata(path: Path) -> dict[str, Any] | None:
    """Metadata of the card that lies there, as far as it is ours; None if it is somebody's own."""
    if not path.is_file():
        return {}
    card = path.read_text(encoding="utf-8", errors="replace")
    if not is_generated(card):
        return None
    if MARKER not in card:
        return {}
    try:
        return dict(ModelCard(card, ignore_metadata_errors=True).data.to_dict())
    except (ValueError, TypeError, yaml.YAMLError):  # somebody's hand was in it
        return None


def _draw(folder: Path, calibration: Calibration) -> dict[int, str]:
    """Draw the reliability of each set of questions; number of the set -> name of the image."""
    images = {}
    for number, measured in enumerate(calibration.metrics):
        curves = _curves(measured)
        if not curves:
            continue
        name = f"reliability-{number + 1}.png" if number else "reliability.png"
        figure = reliability_panels(curves, definition=calibration.answers.confidence)
        save_png(figure, folder / name)
        images[number] = name
    return images


def _curves(measured: SplitMetrics) -> dict[str, ReliabilityCurve]:
    named = {"the model's own": measured.raw_bins, "calibrated": measured.calibrated_bins}
    return {name: _curve(bins) for name, bins in named.items() if bins and sum(bins.count)}


def _curve(bins: ReliabilityBins) -> ReliabilityCurve:
    count = np.array(bins.count, np.int64)
    confidence, accuracy = (
        np.where(count > 0, values, np.nan) for values in (bins.confidence, bins.accuracy)
    )
    return ReliabilityCurve(np.arange(len(count) + 1) / len(count), confidence, accuracy, count)
