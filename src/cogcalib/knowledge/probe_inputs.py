"""The questions of a probe and what their prompts are drawn from: of a task, or of a table."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from cogcalib.knowledge.probe_task import ProbeTask
from cogcalib.knowledge.questions import Listed, Questions, named, survey
from cogcalib.provenance import data_manifest
from cogcalib.records import Example
from cogcalib.tasks import Asked, QuestionTable, Task, draw, load_task
from cogcalib.tasks.loading import no_such_split


class Data(NamedTuple):
    """What is asked.

    Attributes:
        name: Of the questions' task.
        questions: In partitions.
        pool: Examples to draw shots from.
        group_of: Example id -> group, for those of the pool.
        groups: That prompts are needed for.
        manifest: Numbers and hashes of the questions and of the pool.
        repeats: Sentences on rows of a table that ask the same, or on those of a task that were
            dropped for it; empty if there are none.
    """

    name: str
    questions: Questions
    pool: list[Example]
    group_of: dict[str, str]
    groups: list[str]
    manifest: dict[str, Any]
    repeats: str = ""


def of_table(asked: ProbeTask) -> Data:
    """The questions of a table; it is read through once.

    Raises:
        ValueError: If a split is named, there are fewer questions than wanted, or as `survey`.
    """
    table = QuestionTable(asked.data or "", prompt=asked.prompt)
    for key, split in (("split", asked.split), ("shot_split", asked.shot_split)):
        if split not in (None, "train"):
            raise ValueError(f"{key} must be train for a table, got {split!r}")
    found = survey(table, asked.partition)
    questions: Questions = found.questions
    if asked.limit is not None:
        questions = Listed(
            _picked(table, questions.count, asked.limit, asked.seed), asked.partition
        )
    manifest = {"asked": found.manifest, "shots": found.manifest}
    return Data(
        table.name, questions, found.pool, found.group_of, found.groups, manifest, found.repeats
    )


def of_task(asked: ProbeTask) -> Data:
    """The questions of a task's split.

    Raises:
        ValueError: If there is no such task or split, or as `draw`.
    """
    task = load_task(asked.task or "", asked.data_dir, prompt=asked.prompt)
    examples, pool = _questions(asked, task)
    rows = [Asked(e, task.group_of.get(e.id, e.task)) for e in examples]
    questions = Listed(rows, asked.partition)
    groups = list(dict.fromkeys(row.group for row in rows))
    manifest = data_manifest({"asked": examples, "shots": pool})
    repeats = "\n".join(
        task.dropped_lines(asked.split, _shown(asked, task) if asked.shots else None)
    )
    return Data(task.name, questions, pool, dict(task.group_of), groups, manifest, repeats)


def _picked(table: QuestionTable, count: int, limit: int, seed: int) -> list[Asked]:
    if limit > count:
        raise ValueError(f"limit must be at most {count}, the table's questions, got {limit}")
    wanted = set(random.Random(seed).sample(range(count), limit))
    rows = (row for _, row in table.read())
    return [named(row) for index, row in enumerate(rows) if index in wanted]


def _questions(asked: ProbeTask, task: Task) -> tuple[list[Example], list[Example]]:
    """The questions to probe, and those to draw shots from."""
    shown = _shown(asked, task)
    for name, split in (("split", asked.split), ("shot_split", shown)):
        if split not in task.splits:
            raise no_such_split(name, split, task.name, task.splits)
    return draw(task.splits[asked.split], asked.limit, asked.seed), task.splits[shown]


def _shown(asked: ProbeTask, task: Task) -> str:
    """The split that shots are drawn from."""
    return asked.shot_split or ("train" if "train" in task.splits else asked.split)
