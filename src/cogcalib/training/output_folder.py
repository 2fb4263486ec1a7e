"""The folder that a training writes into: what lies there already, and what becomes of it."""

from __future__ import annotations

from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from cogcalib.knowledge.ledger import FOLDER
from cogcalib.modeling.model_files import ADAPTER, holds_adapter, holds_whole_model
from cogcalib.training.callbacks import THRESHOLDS_NAME
from cogcalib.training.logs import get_logger

logger = get_logger(__name__)


def refuse_other_kind(folder: Path, *, adapter: bool, checkpoints: bool = False) -> None:
    """Raise ValueError where an adapter would come beside a whole model, or the other way round.

    Nothing loads such a folder: nobody could tell which of the two is meant.

    Args:
        folder: That the model is saved into; it need not exist.
        adapter: Whether that is an adapter.
        checkpoints: Whether checkpoints are saved there, too.
    """
    inner = sorted(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*")) if checkpoints else []
    other, kind = ("model*.safetensors", "a whole model") if adapter else (ADAPTER[0], "an adapter")
    found = next((file for each in (folder, *inner) for file in sorted(each.glob(other))), None)
    if found is not None:
        raise ValueError(
            f"output_dir={str(folder)!r} holds {kind} ({found.relative_to(folder)}), and this "
            f"training saves {'an adapter' if adapter else 'a whole model'}: a folder with both "
            "cannot be loaded. Set output_dir to another folder, or remove what lies there if you "
            "need it no longer"
        )


def warn_of_replacing(folder: Path, *, ledger: bool) -> None:
    """Say what of an earlier training this one replaces.

    Args:
        folder: That the training writes into.
        ledger: Whether this training keeps a ledger.
    """
    calibration = "calibration.json (with any temperature and abstention rules)"
    at_once = {f"{FOLDER}/": ledger and (folder / FOLDER).is_dir()}
    at_once |= {THRESHOLDS_NAME: (folder / THRESHOLDS_NAME).is_file()}
    saved = {"the adapter": holds_adapter(folder), "the model": holds_whole_model(folder)}
    saved |= {calibration: (folder / "calibration.json").is_file()}
    lost = [
        f"{' and '.join(name for name, there in group.items() if there)} {when}"
        for group, when in ((at_once, "by training"), (saved, "when the model is saved"))
        if any(group.values())
    ]
    if lost:
        logger.warning(
            "%s holds an earlier training, and this one replaces it: %s. To keep it set output_dir "
            "to another folder.",
            folder,
            "; ".join(lost),
        )
