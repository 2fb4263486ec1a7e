"""Open the folder of a run: tasks checked, base model probed, questions chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cogcalib.harness.config import Config
from cogcalib.harness.progress import StageProgress
from cogcalib.harness.stages.context import Splits, Work, open_folder
from cogcalib.harness.stages.data import choose_splits, describe_tasks, load_tasks
from cogcalib.harness.stages.probe import labels_given, probe_base
from cogcalib.harness.stages.train import check_methods
from cogcalib.modeling import fingerprint
from cogcalib.provenance import code_state
from cogcalib.records import ProbeRecord, input_errors


@dataclass(frozen=True)
class Begun:
    """A run that is ready to train.

    Attributes:
        work: What every stage needs.
        splits: The questions.
        knowledge: Example id -> what the base model knows of it.
    """

    work: Work
    splits: Splits
    knowledge: Mapping[str, ProbeRecord]


def begin(
    config: Config,
    path: Path,
    console: Console,
    *,
    resume: bool = False,
    data_dir: Path | None = None,
) -> Begun:
    """Claim the folder of a run and do what all its methods share.

    Args:
        config: What to run.
        path: The run's folder.
        console: Shows progress.
        resume: Go on with a folder that already holds this configuration.
        data_dir: Folder of local data sets, as in `cogcalib.tasks.load_task`.

    Raises:
        InputError: If a task, model, probe or data set cannot be used as configured, or the folder
            holds something else, or this run and `resume` is not set. Nothing was trained then.
    """
    with input_errors():
        check_methods(config)
        tasks = load_tasks(config, data_dir)
        given = labels_given(config, tasks[0], path)
        folder = open_folder(config, path, resume=resume)
        folder.claim("model.json", fingerprint(config.model.path))
        folder.claim("tasks.json", describe_tasks(config, tasks))
        if folder.begun_with(code_state()) != code_state():
            console.print("  [yellow]begun with other code: finished stages are kept[/]")
        work = Work(config, folder, StageProgress(console, folder.path / "timings.json"))
        knowledge = probe_base(work, tasks, given)
        splits = choose_splits(work, tasks, knowledge)
    return Begun(work, splits, knowledge)
