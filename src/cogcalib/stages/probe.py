"""What the base model knows of the training questions."""

from __future__ import annotations

from cogcalib.knowledge import probe, renderings
from cogcalib.modeling import load_model
from cogcalib.records import ProbeRecord, read_jsonl, write_jsonl
from cogcalib.run_folder import RunFolder
from cogcalib.stages.work import Work
from cogcalib.tasks import Task, draw


def probe_base(work: Work, tasks: tuple[Task, list[Task]]) -> dict[str, ProbeRecord]:
    """Example id -> what the base model knows of it, for every question that may be trained on."""
    limits = work.config.tasks
    pool = tasks[0].splits["train"]
    if limits.unknown_share is None:
        pool = draw(pool, limits.limit.get("train"), limits.seed)
    path = work.folder.probe()
    if path.exists():
        work.progress.skipped("probe")
    else:
        model, tokenizer = load_model(work.config.model.path, dtype=work.config.model.dtype)
        with work.progress.stage("probe: what does the model know?", renderings(pool)) as advance:
            batch_size = work.config.score.batch_size
            records = probe(model, tokenizer, pool, batch_size=batch_size, progress=advance)
        write_jsonl(path, records)
    return read_probe(work.folder)


def read_probe(folder: RunFolder) -> dict[str, ProbeRecord]:
    """What a probe finished before found, as `probe_base` returns it."""
    return {record.id: record for record in read_jsonl(folder.probe(), ProbeRecord)}
