"""The context of a run: what every stage is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cogcalib.harness.config import Config, Method, dump_config, parse_config
from cogcalib.harness.progress import Advance, StageProgress
from cogcalib.harness.run_folder import RunFolder
from cogcalib.harness.stages.settle import settled
from cogcalib.records import Example, Prediction
from cogcalib.tasks import drawn_as_one, halve

Splits = Mapping[str, list[Example]]
"""Split or out-of-domain task -> its examples."""
Predict = Callable[[Sequence[Example], Advance], list[Prediction]]
"""Predictions of one method for examples of one task and split."""
TUNING = ("train", "calibration")
"""Splits that a model or a threshold is fitted on."""
THRESHOLD = "threshold"
"""The half of the calibration split that trainings are given, see `of_seed`."""
MEMBERS_APART = 1000
"""Between the seeds of an ensemble's members: far enough that runs of other seeds share none."""


@dataclass(frozen=True)
class RunContext:
    """The configuration of a run, its folder, and where its progress is shown."""

    config: Config
    folder: RunFolder
    progress: StageProgress

    def model_name(self, method: Method) -> str:
        """How predictions name the model they come from."""
        return f"{self.config.model.path} ({method.name})"


def open_folder(config: Config, path: Path, *, resume: bool) -> RunFolder:
    """The folder of a run, claimed for its configuration.

    A configuration held there counts by what it means: the order of its keys, keys spelled out at
    their defaults and keys left out make no difference, nor does ``auto`` for what it comes to.

    Raises:
        FolderError: As `RunFolder.begin`.
        ValueError: As `settled`.
    """
    text = dump_config(settled(config)[0])
    return RunFolder.begin(path, text, resume=resume, reread=_as_today)


def _as_today(held: str) -> str:
    try:
        return dump_config(settled(parse_config(held))[0])
    except ValueError:  # no configuration of ours, or of a model that is gone
        return held


def of_seed(splits: Splits, seed: int) -> Splits:
    """The splits as a seed has them: its own halves of the calibration split.

    ``threshold`` serves what goes on within a training: thresholds, the schedule of alpha, the step
    to stop at. ``calibration`` serves what is chosen and fitted afterwards: alphas, methods,
    post-hoc maps. What is judged on one was then not steered by it, and a comparison over several
    seeds varies with the calibration questions, too.
    """
    split = splits["calibration"]
    one = drawn_as_one(split)
    for_training, for_choice = halve(one.values(), seed)
    halves = {
        THRESHOLD: [example for example in split if one[example.id] in for_training],
        "calibration": [example for example in split if one[example.id] in for_choice],
    }
    return {**splits, **halves}


def member_seeds(config: Config, method: Method, seed: int) -> list[int]:
    """Seeds of the trainings that a method rests on: one, or those of an ensemble's members."""
    members = config.baselines.members if method.baseline == "ensemble" else 1
    return [seed + MEMBERS_APART * k for k in range(members)]
