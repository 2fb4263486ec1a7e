"""What every stage of a run is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cogcalib.harness.config import Config, ConfigError, Method, dump_config, parse_config
from cogcalib.harness.progress import Advance, StageProgress
from cogcalib.harness.run_folder import RunFolder
from cogcalib.records import Example, Prediction

Splits = Mapping[str, list[Example]]
"""Split or out-of-domain task -> its examples."""
Predict = Callable[[Sequence[Example], Advance], list[Prediction]]
"""Predictions of one method for examples of one task and split."""
TUNING = ("train", "calibration")
"""Splits that a model or a threshold is fitted on."""


@dataclass(frozen=True)
class Work:
    """What every stage needs: the configuration, the folder, somebody to tell."""

    config: Config
    folder: RunFolder
    progress: StageProgress

    def model_name(self, method: Method) -> str:
        """How predictions name the model they come from."""
        return f"{self.config.model.path} ({method.name})"


def open_folder(config: Config, path: Path, *, resume: bool) -> RunFolder:
    """The folder of a run, as `RunFolder`; one begun before a key was added goes on."""
    return RunFolder(path, dump_config(config), resume=resume, reread=_as_today)


def _as_today(held: str) -> str:
    try:
        return dump_config(parse_config(held))
    except ConfigError:
        return held
