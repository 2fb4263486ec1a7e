"""What the base model knows of the training questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cogcalib.harness.config import Config
from cogcalib.harness.run_folder import PROBE, RunFolder
from cogcalib.harness.stages.context import Work
from cogcalib.harness.stages.slick import slick_labels
from cogcalib.knowledge import probe, renderings
from cogcalib.modeling import load_model
from cogcalib.records import Example, ProbeRecord, read_jsonl, write_jsonl
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
    if config.probe is None or (path / PROBE).exists():
        return None
    return slick_labels(config, Path(config.probe), _pool(config, task))


def probe_base(
    work: Work, tasks: tuple[Task, list[Task]], given: Sequence[ProbeRecord] | None = None
) -> dict[str, ProbeRecord]:
    """Example id -> what the base model knows of it, for every question that may be trained on.

    Args:
        work: The run.
        tasks: As `load_tasks` returns them.
        given: What is known already; None asks the model.
    """
    path = work.folder.probe()
    if path.exists():
        work.progress.skipped("probe")
    elif given is not None:
        write_jsonl(path, given)
        work.progress.skipped(f"probe: {work.config.probe}")
    else:
        pool = _pool(work.config, tasks[0])
        model, tokenizer = load_model(work.config.model.path, dtype=work.config.model.dtype)
        with work.progress.stage("probe: what does the model know?", renderings(pool)) as advance:
            batch_size = work.config.score.batch_size
            records = probe(model, tokenizer, pool, batch_size=batch_size, progress=advance)
        write_jsonl(path, records)
    return read_probe(work.folder)


def read_probe(folder: RunFolder) -> dict[str, ProbeRecord]:
    """What a probe finished before found, as `probe_base` returns it."""
    return {record.id: record for record in read_jsonl(folder.probe(), ProbeRecord)}


def _pool(config: Config, task: Task) -> list[Example]:
    """The questions that may be trained on."""
    limits, pool = config.tasks, task.splits["train"]
    if limits.unknown_share is not None:
        return pool
    return draw(pool, limits.limit.get("train"), limits.seed)
