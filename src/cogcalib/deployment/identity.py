"""The identity of a model: what a `calibration.json` knows it by, without a local path; and the
number format it was measured in."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from cogcalib.deployment.calibration_file import (
    ANEW,
    FILE,
    Calibration,
    ModelIdentity,
    tokenizer_hash,
)
from cogcalib.modeling import fingerprint
from cogcalib.modeling.adapters import adapter_hash, revision_of_base
from cogcalib.modeling.model_files import public_name
from cogcalib.records import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def identify(
    source: str | Path, tokenizer: PreTrainedTokenizerBase, adapter: Path | None = None
) -> ModelIdentity:
    """What a model is known by.

    Args:
        source: Of a model, not of an adapter: a folder, a hub id, or one of `ATLAS`.
        tokenizer: That its questions are put with.
        adapter: Folder of the adapter on top of it; None without one, or for one on the hub.

    Raises:
        ValueError: As `cogcalib.modeling.fingerprint`.
    """
    revision = None if adapter is None else revision_of_base(adapter)
    found = fingerprint(source, revision)
    return ModelIdentity(
        public_name(source),
        found["sha256"],
        found["commit"],
        tokenizer_hash(tokenizer),
        None if adapter is None else adapter_hash(adapter),
    )


def check_identity(calibration: Calibration, model: ModelIdentity, path: Path) -> None:
    """Check that a calibration belongs to the model at hand.

    Raises:
        InputError: If it was made of another model, adapter or tokenizer.
    """
    own = calibration.model
    for part in ("sha256", "commit", "tokenizer", "adapter"):
        wanted, got = getattr(own, part), getattr(model, part)
        if wanted and got and wanted != got:
            what = part if part in ("tokenizer", "adapter") else "model"
            raise InputError(
                f"{path / FILE} was made with another {what} ({own.name}) than {model.name}; give "
                f"the one it was made with, or {ANEW}"
            )
    # Only of a model that lies here the files are known.
    if own.sha256 and model.sha256 and bool(own.adapter) != bool(model.adapter):
        made, here = ("with", "without") if own.adapter else ("without", "with")
        raise InputError(
            f"{path / FILE} was made {made} an adapter on {own.name}, and this is {model.name} "
            f"{here} one; give what it was made with, or {ANEW}"
        )


def warn_of_precision(calibration: Calibration, asked: str) -> None:
    """Warn if a model is asked in another number format than its confidence was calibrated in.

    Only of what was fitted: a model's own confidence is what it is.

    Args:
        calibration: Of the model.
        asked: As `FoundModel.precision`; empty if not known.
    """
    own = calibration.precision
    fitted = calibration.map or calibration.rules or calibration.folded_temperature
    if fitted and own and asked and own != asked:
        what = "its map was fitted" if calibration.map else "its rules were found"
        warnings.warn(
            f"{FILE}: {what} in {own}, and the model is asked in {asked}, in which confidences "
            "differ; ask it as before, or recalibrate and guard it in this format",
            stacklevel=3,
        )
