"""Knowledge of the base model: its labels of the training questions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cogcalib.harness.config import Config
from cogcalib.harness.run_folder import RunFolder
from cogcalib.harness.stages.asked_once import asked_once
from cogcalib.harness.stages.context import RunContext
from cogcalib.harness.stages.given_labels import slick_labels
from cogcalib.jsonl import write_jsonl
from cogcalib.knowledge import probe, renderings
from cogcalib.modeling import fingerprint, load_model
from cogcalib.records import Example, ProbeRecord
from cogcalib.tasks import Task, draw


def labels_given(config: Config, task: Task, path: Path) -> list[ProbeRecord] | None:
    """The labels of the `cogcalib probe` that a run names; None without one, or if it has them.

    Args:
        config: Of the run.
        task: Trained on.
        path: The run's folder, which need not be there.

    Raises:
        ValueError, FileNotFoundError: As `slick_labels`.
    """
    if config.probe is None or RunFolder(path).probe.exists():
        return None
    return slick_labels(config, Path(config.probe), _pool(config, task))


def probe_base(
    context: RunContext,
    tasks: tuple[Task, list[Task]],
    given: Sequence[ProbeRecord] | None = None,
    shared: Path | None = None,
) -> dict[str, ProbeRecord]:
    """Example id -> what the base model knows of it, for every question that may be trained on.

    Args:
        context: Of the run.
        tasks: As `load_tasks` returns them.
        given: What is known already; None asks the model.
        shared: Folder of labels that runs share: a model is asked a question once for all of them.
    """
    path = context.folder.probe
    if path.exists():
        context.progress.skipped("probe")
    elif given is not None:
        write_jsonl(path, given)
        context.progress.skipped(f"probe: {context.config.probe}")
    else:
        pool = _pool(context.config, tasks[0])
        records = _ask(context, pool) if shared is None else _ask_once(context, pool, shared)
        write_jsonl(path, records)
    return context.folder.read_probe()


def _ask(context: RunContext, pool: Sequence[Example]) -> list[ProbeRecord]:
    model, tokenizer = load_model(context.config.model.path, **context.config.model.loading())
    with context.progress.stage("probe: what does the model know?", renderings(pool)) as advance:
        batch_size = context.config.score.batch_size
        return probe(model, tokenizer, pool, batch_size=batch_size, progress=advance)


def _ask_once(context: RunContext, pool: Sequence[Example], shared: Path) -> list[ProbeRecord]:
    section, task = context.config.model, context.config.tasks.train
    of = [fingerprint(section.path, section.revision), section.loading(), task]
    return asked_once(shared, of, ProbeRecord, pool, partial(_ask, context), context.progress.say)


def _pool(config: Config, task: Task) -> list[Example]:
    """The questions that may be trained on."""
    limits, pool = config.tasks, task.splits["train"]
    if limits.unknown_share is not None:
        return pool
    return draw(pool, limits.limit.get("train"), limits.seed)
