"""The whole flow on one screen: read this first.

    tasks        which questions train, calibrate and test           -> splits/
    probe        what the base model knows of the training questions -> probe/
    train        one fine-tuned model per method and seed            -> train/<method>/seed-<s>/
    score        its predictions, in domain and out of domain        -> score/<method>/seed-<s>/
    recalibrate  the same after post-hoc calibration                 -> recalibrate/...
    report       metrics with intervals, record, page                -> metrics.json, report.html

Every stage leaves its artifact in the run's folder and is not run again if it is there.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from cogcalib import stages
from cogcalib.config import Config, Method, dump_config
from cogcalib.modeling import fingerprint
from cogcalib.progress import StageProgress
from cogcalib.records import input_errors
from cogcalib.run_folder import RunFolder, code_state


def run(
    config: Config,
    root: Path,
    console: Console,
    *,
    resume: bool = False,
    data_dir: Path | None = None,
) -> RunFolder:
    """Run every stage of a configuration in the folder ``root/<name>``.

    Args:
        config: What to run.
        root: Where run folders stand.
        console: Shows progress.
        resume: Go on with a folder that already holds this configuration.
        data_dir: Folder of local data sets, as in `load_task`. No part of the configuration: a run
            is known by the hashes of its data, and may go on where they lie elsewhere.

    Raises:
        InputError: If a task, model or data set cannot be used as configured, or the folder holds
            something else, or this run and `resume` is not set. Nothing was trained then.
    """
    with input_errors():
        stages.check_methods(config)
        tasks = stages.load_tasks(config, data_dir)
        folder = RunFolder(root / config.name, dump_config(config), resume=resume)
        folder.claim("model.json", fingerprint(config.model.path))
        folder.claim("tasks.json", stages.describe_tasks(config, tasks))
        if folder.begun_with(code_state()) != code_state():
            console.print("  [yellow]begun with other code: finished stages are kept[/]")
    work = stages.Work(config, folder, StageProgress(console, folder.path / "timings.json"))
    with input_errors():
        knowledge = stages.probe_base(work, tasks)
        splits = stages.choose_splits(work, tasks, knowledge)
    methods = [Method.parse(name) for name in config.methods]

    for seed in config.seeds:
        for method in methods:
            stages.train(work, method, seed, splits, knowledge)
            stages.score(work, method, seed, splits)

    stages.report(work, splits)
    return folder
