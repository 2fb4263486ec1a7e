"""The questions that train, calibrate and test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from cogcalib.harness.config import Config, Method
from cogcalib.harness.config.sections import TasksSection
from cogcalib.harness.run_folder import MANIFEST, RunFolder, check_distinct
from cogcalib.harness.stages.context import TUNING, RunContext, Splits
from cogcalib.jsonl import write_jsonl
from cogcalib.modeling import audit_labels, encode_batch, load_tokenizer, shorten_passages
from cogcalib.provenance import data_manifest
from cogcalib.records import ProbeRecord
from cogcalib.scoring.score_record import describe_task
from cogcalib.tasks import Task, check_disjoint, compose, draw, largest_mixture, load_task


def load_tasks(config: Config, data_dir: Path | None = None) -> tuple[Task, list[Task]]:
    """The task trained on and those only tested on.

    Args:
        config: Names them.
        data_dir: Folder of local data sets, as in `cogcalib.tasks.load_task`.

    Raises:
        ValueError: If a task does not exist, cannot be trained on, is named twice, shares questions
            with another's test, or does not fit the methods, the tokenizer or ``train.max_length``.
    """
    preset = config.tasks.prompt
    task = load_task(config.tasks.train, data_dir, prompt=preset)
    missing = [split for split in (*TUNING, "test") if split not in task.splits]
    if missing:
        raise ValueError(f"tasks.train: {task.name} has no split {', '.join(missing)}")
    others = [load_task(name, data_dir, prompt=preset) for name in config.tasks.out_of_domain]
    check_distinct([task.name, *(other.name for other in others)])
    for other in others:
        for split in TUNING:
            tuned = {f"{task.name} {split}": task.splits[split], other.name: other.splits["test"]}
            check_disjoint(tuned)
    _check_kinds([Method.parse(name) for name in config.methods], task, others)
    tokenizer = load_tokenizer(config.model.path, config.model.revision)
    task = _fitted(task, tokenizer, config.train.max_length)
    tests = (replace(other, splits={"test": other.splits["test"]}) for other in others)
    others = [_fitted(other, tokenizer, config.train.max_length) for other in tests]
    for examples in task.splits.values():
        encode_batch(examples, tokenizer, config.train.max_length)
    for other in others:
        encode_batch(other.splits["test"], tokenizer)  # how long it may be is the model's to say
    return task, others


def _check_kinds(methods: Sequence[Method], task: Task, others: Sequence[Task]) -> None:
    """Raise a ValueError unless every method goes with multiple choice or with open-ended tasks."""
    options = _has_options(task)
    if not options and any(method.support == "options" for method in methods):
        raise ValueError(f"methods: -options needs answer options, {task.name} is open-ended")
    aligned = [method.posthoc for method in methods if method.held_against_base]
    if not options and aligned:
        raise ValueError(f"methods: +{aligned[0]} needs answer options, {task.name} is open-ended")
    averaged = [method.name for method in methods if method.baseline]
    if averaged and not all(map(_has_options, (task, *others))):
        raise ValueError(f"methods: {averaged[0]} needs answer options in every task tested on")
    fitted = [method.name for method in methods if method.posthoc]
    foreign = [other.name for other in others if _has_options(other) != options]
    if fitted and foreign:
        kinds = ("multiple choice", "open-ended")
        raise ValueError(
            f"methods: {fitted[0]} is fitted on {task.name}, which is {kinds[not options]}, and "
            f"tasks.out_of_domain has {foreign[0]}, which is {kinds[options]}: their confidences "
            "are defined differently; leave out the task or the method"
        )


def _has_options(task: Task) -> bool:
    return task.splits["test"][0].options is not None


def _fitted(task: Task, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Task:
    """The task with passages cut so that its questions fit."""
    splits, shortened = {}, {}
    for split, examples in task.splits.items():
        splits[split], shortened[split] = shorten_passages(examples, tokenizer, max_length)
    return replace(task, splits=splits, shortened=shortened)


def describe_tasks(config: Config, tasks: tuple[Task, list[Task]]) -> dict[str, Any]:
    """What the record says of each task: where it comes from, and what was done to it."""
    tokenizer = load_tokenizer(config.model.path, config.model.revision)
    described = {}
    for task in (tasks[0], *tasks[1]):
        audit = audit_labels(task.splits["test"], tokenizer)
        described[task.name] = describe_task(task, audit)
    return described


def choose_splits(
    context: RunContext, tasks: tuple[Task, list[Task]], knowledge: Mapping[str, ProbeRecord]
) -> Splits:
    """Split or out-of-domain task -> its examples; written with a hash of each."""
    task, others = tasks
    wanted = context.config.tasks
    splits = {
        split: draw(task.splits[split], wanted.limit.get(split), wanted.seed)
        for split in ("train", "calibration", "test")
        if split != "train" or wanted.unknown_share is None
    }
    if wanted.unknown_share is not None:
        categories = {id: record.category for id, record in knowledge.items()}
        splits["train"] = compose(
            task.splits["train"],
            categories,
            size=_mixture_size(wanted, task, categories),
            unknown_share=wanted.unknown_share,
            seed=wanted.seed,
        )
    splits |= {other.name: other.splits["test"] for other in others}
    for name, examples in splits.items():
        write_jsonl(context.folder.splits(name), examples)
    context.folder.claim(MANIFEST, data_manifest(splits))
    return splits


def _mixture_size(wanted: TasksSection, task: Task, categories: Mapping[str, str]) -> int:
    """The size asked for, or what the pool allows for all mixtures that are to be of one size."""
    size = wanted.limit.get("train", len(task.splits["train"]))
    if not wanted.equal_to:
        return size
    shares = [wanted.unknown_share or 0.0, *wanted.equal_to]
    most = largest_mixture([categories[e.id] for e in task.splits["train"]], shares)
    if most < 2:
        counts = Counter(categories[e.id] for e in task.splits["train"])
        raise ValueError(
            f"tasks.equal_to: of {task.name} the base model knows {counts['known']} training "
            f"questions with certainty and {counts['unknown']} plainly not: too few for every "
            f"share of {', '.join(f'{share:g}' for share in sorted(set(shares)))}"
        )
    return min(size, most)


def read_splits(folder: RunFolder) -> Splits:
    """The questions that `choose_splits` chose before, without loading a data set.

    Raises:
        FolderError: If the files hold other questions than were chosen.
    """
    splits = folder.read_splits()
    folder.claim(MANIFEST, data_manifest(splits))
    return splits
