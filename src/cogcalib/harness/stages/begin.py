"""Open the folder of a run: tasks checked, base model probed, questions chosen."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from cogcalib.artifacts import check_writable
from cogcalib.harness.config import Config
from cogcalib.harness.config.train_sections import ModelSection
from cogcalib.harness.progress import StageProgress
from cogcalib.harness.run_folder import MODEL, TASKS
from cogcalib.harness.stages.context import RunContext, Splits, open_folder
from cogcalib.harness.stages.prepare import choose_splits, describe_tasks, load_tasks
from cogcalib.harness.stages.probe import labels_given, probe_base
from cogcalib.harness.stages.settle import settled, with_steps
from cogcalib.harness.stages.train import check_methods
from cogcalib.harness.stages.whole_training import check_whole_training
from cogcalib.modeling import fingerprint
from cogcalib.modeling.lora import check_targets
from cogcalib.modeling.model_spec import model_without_weights
from cogcalib.owned_folder import holding
from cogcalib.provenance import code_state
from cogcalib.records import ProbeRecord, input_errors


@dataclass(frozen=True)
class Begun:
    """A run that is ready to train.

    Attributes:
        context: What every stage needs.
        splits: The questions.
        knowledge: Example id -> what the base model knows of it.
    """

    context: RunContext
    splits: Splits
    knowledge: Mapping[str, ProbeRecord]


def begin(
    config: Config,
    path: Path,
    console: Console,
    *,
    resume: bool = False,
    data_dir: Path | None = None,
    until: ExitStack | None = None,
    probes: Path | None = None,
) -> Begun:
    """Claim the folder of a run and do what all its methods share.

    Args:
        config: What to run.
        path: The run's folder.
        console: Shows progress.
        resume: Go on with a folder that already holds this configuration.
        data_dir: Folder of local data sets, as in `cogcalib.tasks.load_task`.
        until: Other processes are kept out of the folder until it is closed; None keeps none out.
        probes: Folder of labels that it shares with other runs, as in `probe_base`.

    Raises:
        InputError: If a task, model, probe or data set cannot be used as configured, or the folder
            holds something else, or this run and `resume` is not set. Nothing was trained then.
    """
    started = time.perf_counter()
    with input_errors():
        check_writable(path)
        config, told = settled(config)
        check_methods(config)
        check_whole_training(config)
        _check_targets(config.model)
        tasks = load_tasks(config, data_dir)
        given = labels_given(config, tasks[0], path)
        for line in (*tasks[0].dropped_lines(), *([told] if told else ())):
            console.print(f"  [yellow]{escape(line)}[/]", highlight=False, soft_wrap=True)
        if until is not None:
            until.enter_context(holding(path))
        folder = open_folder(config, path, resume=resume)
        folder.claim(MODEL, fingerprint(config.model.path, config.model.revision))
        folder.claim(TASKS, describe_tasks(config, tasks))
        if folder.begun_with(code_state()) != code_state():
            console.print("  [yellow]begun with other code: finished stages are kept[/]")
        context = RunContext(config, folder, StageProgress(console, folder.timings))
        context.progress.took("prepare", time.perf_counter() - started)
        knowledge = probe_base(context, tasks, given, probes)
        splits = choose_splits(context, tasks, knowledge)
        with_steps(config, len(splits["train"]))  # raises if they are too few
    return Begun(context, splits, knowledge)


def _check_targets(model: ModelSection) -> None:
    """Raise ValueError if an adapter is for modules that the model does not have."""
    if model.lora is None or isinstance(model.lora.targets, str):
        return
    bare = model_without_weights(model.path, model.revision)
    if bare is not None:
        check_targets(bare, model.lora.targets)
