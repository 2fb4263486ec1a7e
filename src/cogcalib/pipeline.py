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

from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from cogcalib.harness import stages
from cogcalib.harness.config import Config, Method
from cogcalib.harness.run_folder import RunFolder


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
            something else, or this run and `resume` is not set, or another process writes there; or
            ``+daca`` is asked for, and the base model is not calibrated.
            Nothing was trained then.
    """
    path, methods = root / config.name, [Method.parse(name) for name in config.methods]
    with ExitStack() as end:
        begun = stages.begin(config, path, console, resume=resume, data_dir=data_dir, until=end)
        context, splits, knowledge = begun.context, begun.splits, begun.knowledge

        stages.check_base(context, methods, splits)
        for seed in config.seeds:
            for method in methods:
                stages.train(context, method, seed, splits, knowledge)
                stages.score(context, method, seed, splits, along=config.methods)

        stages.report(context, splits)
    return context.folder
