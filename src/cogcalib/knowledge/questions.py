"""The questions of a probe in partitions: of a task in memory, of a table of any size on disk.

A partition is so many consecutive questions. It is what is read, finished and written at once, by
whichever process; nothing else of the data set need be in memory.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from cogcalib.knowledge.repeats import RepeatCounter, is_suspect
from cogcalib.knowledge.rotations import turns
from cogcalib.modeling.shots import same_question
from cogcalib.records import Example
from cogcalib.tasks import Asked, QuestionTable, TablePlace

POOL = 256
"""Questions of each group that a table's shots are drawn from: no group is kept whole."""


class Questions(Protocol):
    """Questions in partitions. Pickled, it goes to workers.

    Attributes:
        count: How many there are.
        renderings: How many sequences one prompt takes, of each question as many as its `turns`.
        partition: Questions in each partition but the last.
    """

    count: int
    renderings: int
    partition: int

    def read(self, number: int) -> list[Asked]:
        """The questions of a partition."""

    def everywhere(self) -> Questions:
        """The same for a process that stands in another folder."""


def partitions(questions: Questions) -> int:
    """How many partitions there are."""
    return -(-questions.count // questions.partition)


class Listed:
    """Questions in memory."""

    def __init__(self, asked: Sequence[Asked], partition: int) -> None:
        self.asked, self.partition = list(asked), partition
        self.count = len(self.asked)
        self.renderings = sum(turns(example) for example, _ in asked)

    def read(self, number: int) -> list[Asked]:
        """The questions of a partition."""
        return self.asked[number * self.partition : (number + 1) * self.partition]

    def everywhere(self) -> Listed:
        """The same: nothing is read."""
        return self


class Streamed:
    """Questions of a table, of which nothing but the partitions' places is kept."""

    def __init__(
        self, table: QuestionTable, places: Sequence[TablePlace], count: int, partition: int
    ) -> None:
        self.table, self.places = table, tuple(places)
        self.count = self.renderings = count
        self.partition = partition
        self._reading: tuple[int, Iterator[tuple[TablePlace, Asked]]] | None = None

    def read(self, number: int) -> list[Asked]:
        """The questions of a partition; the one after the last read needs no search."""
        if self._reading is None or self._reading[0] != number:
            self._reading = (number, self.table.read(self.places[number]))
        rows = self._reading[1]
        size = min(self.partition, self.count - number * self.partition)
        found = [named(row) for _, row in islice(rows, size)]
        if len(found) < size:
            raise ValueError(f"{self.table.path} has fewer rows than when the probe was begun")
        self._reading = (number + 1, rows)
        return found

    def everywhere(self) -> Streamed:
        """The same with whole paths."""
        return Streamed(self.table.everywhere(), self.places, self.count, self.partition)

    def __getstate__(self) -> dict[str, object]:
        # A reading that has begun stays where it is.
        return {**self.__dict__, "_reading": None}


@dataclass(slots=True)
class Survey:
    """What one pass over a table finds out.

    Attributes:
        questions: Where the partitions begin.
        pool: Questions to draw shots from: of each group the `POOL` whose hashes are smallest,
            whatever the order.
        group_of: Example id -> group, for those of the pool.
        groups: All groups.
        manifest: Number of questions and a hash of them in their order.
        repeats: A sentence on rows that ask the same; empty if there are none.
    """

    questions: Streamed
    pool: list[Example]
    group_of: dict[str, str]
    groups: list[str]
    manifest: dict[str, object]
    repeats: str


def survey(table: QuestionTable, partition: int) -> Survey:
    """Read a table once, checking every row.

    Raises:
        ValueError: If a row cannot be used, naming file, row and column, or two have the same id.
    """
    places, pools, digest, count = [], dict[str, _Pool](), hashlib.sha256(), 0
    repeats = RepeatCounter()
    for place, row in table.read():
        example, group = named(row)
        if count % partition == 0:
            places.append(place)
        count += 1
        repeats.add(example, identified=table.identified)
        content = (example.id, example.prompt, example.answer, example.aliases, group)
        digest.update(json.dumps(content).encode())
        pools.setdefault(group, _Pool()).offer(example)
    if suspects := repeats.suspects():
        _check_ids(table, suspects)
    kept = {group: pool.examples() for group, pool in pools.items()}
    return Survey(
        Streamed(table, places, count, partition),
        [example for examples in kept.values() for example in examples],
        {example.id: group for group, examples in kept.items() for example in examples},
        list(kept),
        {"n": count, "sha256": digest.hexdigest()},
        repeats.line(),
    )


def _check_ids(table: QuestionTable, suspects: set[int]) -> None:
    seen: dict[str, int] = {}
    for number, (_, (example, _)) in enumerate(table.read(), start=1):
        if not is_suspect(example, suspects):
            continue
        if (first := seen.setdefault(example.id, number)) != number:
            raise ValueError(
                f"{table.path}: the column id must be another for every row, but {example.id!r} "
                f"stands in row {first:,} and in row {number:,}"
            )


def named(asked: Asked) -> Asked:
    """The question with its task for a group where the table has none."""
    return Asked(asked.example, asked.group or asked.example.task)


@dataclass(slots=True)
class _Pool:
    """The distinct questions of the smallest hashes among all that are offered."""

    kept: dict[str, Example] = field(default_factory=dict)
    largest: list[tuple[int, str]] = field(default_factory=list)

    def offer(self, example: Example) -> None:
        key = same_question(example)
        held = self.kept.get(key)
        if held is not None:
            # One question with several answers: as `draw_prompts` chooses among them.
            self.kept[key] = min(held, example, key=lambda e: (e.content_hash(), e.id))
            return
        entry = (-int(key, 16), key)
        if len(self.largest) < POOL:
            heapq.heappush(self.largest, entry)
        elif entry > self.largest[0]:
            del self.kept[heapq.heapreplace(self.largest, entry)[1]]
        else:
            return
        self.kept[key] = example

    def examples(self) -> list[Example]:
        return [self.kept[key] for key in sorted(self.kept)]
