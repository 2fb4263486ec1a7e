"""The facts: how often each is read, and which ones teach how questions are asked.

EntityQuestions does not say how famous its subjects are, so fame is drawn: from a hash of the
question, in every split alike. A share of the facts is never read: nothing but the look of a name
can hint at their answers, they are unknown by construction. The others are read 1 to `MOST` times,
log-uniformly, as fame has a long tail.

The form of a question is learnt on facts set aside: a share of the train split, always read, every
reading followed by the question itself. They stand in no task. No other question is ever shown, so
that a right answer to one must come from what was read.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from statements import RELATIONS

from cogcalib.atlas.corpus import Document
from cogcalib.modeling.encoding import render_completion, render_prompt
from cogcalib.records import Example
from cogcalib.tasks import load_task
from cogcalib.yaml_files import dump_yaml

UNREAD = 0.35
"""Share of the facts that are never read."""
MOST = 64
"""Readings of the most famous fact."""
ASKED = 0.2
"""Share of the train split that is set aside to be asked."""


@dataclass(frozen=True)
class Fact:
    """A question that is asked once in the whole data set, and what becomes of it.

    Attributes:
        example: As the tasks ask it.
        relation: Its number in Wikidata.
        subject: What it is about.
        readings: How often it is read.
        asked: Whether it is set aside and asked as often.
    """

    example: Example
    relation: str
    subject: str
    readings: int
    asked: bool

    @property
    def statements(self) -> list[Document]:
        """The fact in each of its wordings; only the answer is supervised."""
        documents = []
        for statement in RELATIONS[self.relation].statements:
            before, _, after = statement.partition(" {answer}")
            prompt = before.replace("{subject}", self.subject)
            documents.append(Document(prompt, f" {self.example.answer}{after}"))
        return documents

    @property
    def question(self) -> Document:
        """The fact as the tasks ask for it."""
        return Document(render_prompt(self.example), render_completion(self.example))


def read_facts(
    data_dir: Path, relations: Collection[str], *, seed: int, most_train: int | None = None
) -> tuple[list[Fact], dict[str, int]]:
    """The facts of some relations, from all three splits.

    Args:
        data_dir: Folder of local data sets, as in `cogcalib.tasks.load_task`.
        relations: Their numbers in Wikidata.
        seed: Of every draw.
        most_train: Facts kept of a relation's train split; None keeps all.

    Returns:
        The facts, and how many questions of these relations were left out: ``repeated`` (asked
        again with another answer or relation), ``worded otherwise`` and ``not kept``.
    """
    task = load_task("entity_questions", data_dir)
    examples = [example for split in task.splits.values() for example in split]
    times = Counter(example.prompt for example in examples)
    left_out = Counter({"repeated": 0, "worded otherwise": 0, "not kept": 0})
    facts, kept = [], Counter[str]()
    # In an order of their own, of which the first are kept.
    for example in sorted(examples, key=lambda e: draw(seed, "kept", e.prompt)):
        relation = task.group_of[example.id]
        if relation not in relations:
            continue
        subject = RELATIONS[relation].subject(example.prompt)
        if times[example.prompt] > 1:
            left_out["repeated"] += 1
        elif subject is None:
            left_out["worded otherwise"] += 1
        elif example.split == "train" and kept[relation] == most_train:
            left_out["not kept"] += 1
        else:
            kept[relation] += example.split == "train"
            asked = example.split == "train" and draw(seed, "asked", example.prompt) < ASKED
            readings = readings_of(example.prompt, seed, always=asked)
            facts.append(Fact(example, relation, subject, readings, asked))
    return facts, dict(left_out)


def readings_of(question: str, seed: int, *, always: bool = False) -> int:
    """How often a fact is read: never for a share of `UNREAD`, unless `always` read."""
    if not always and draw(seed, "unread", question) < UNREAD:
        return 0
    return int(math.exp(draw(seed, "readings", question) * math.log(MOST + 1)))


def draw(seed: int, purpose: str, question: str) -> float:
    """A number in [0, 1) that depends on nothing else."""
    hashed = hashlib.sha256(f"{seed}:{purpose}:{question}".encode()).digest()
    return int.from_bytes(hashed[:6]) / 2**48


def corpus(facts: Sequence[Fact], seed: int) -> tuple[list[Document], list[int]]:
    """Every document, and which of them is read when: each index as often as it is read."""
    rng = random.Random(seed)
    documents: list[Document] = []
    order: list[int] = []
    for fact in facts:
        if not fact.readings:
            continue
        wordings = fact.statements
        first = len(documents)
        order += [first + rng.randrange(len(wordings)) for _ in range(fact.readings)]
        documents += wordings
        if fact.asked:
            order += [len(documents)] * fact.readings
            documents.append(fact.question)
    rng.shuffle(order)
    return documents, order


def task_files(facts: Sequence[Fact]) -> Iterator[tuple[str, str]]:
    """Path and text of a task for each relation, the facts set aside left out."""
    for relation in dict.fromkeys(fact.relation for fact in facts):
        name = RELATIONS[relation].name
        splits: dict[str, list[str]] = {"train": [], "calibration": [], "test": []}
        for fact in facts:
            if fact.relation == relation and not fact.asked:
                example = fact.example
                row = {
                    "question": example.prompt,
                    "answers": [example.answer, *example.aliases],
                    "readings": fact.readings,
                }
                splits[example.split].append(json.dumps(row, ensure_ascii=False) + "\n")
        for split, rows in splits.items():
            yield f"{name}-{split}.jsonl", "".join(rows)
        yield f"{name}.yaml", dump_yaml(_definition(relation, splits))


def _definition(relation: str, splits: Mapping[str, Sequence[str]]) -> dict[str, object]:
    name = RELATIONS[relation].name
    return {
        "name": f"entity/{name}",
        "description": f"EntityQuestions, {relation}, {name}; without the facts set aside",
        "licence": "MIT",
        "paper": "https://arxiv.org/abs/2109.08535",
        "kind": "open-ended",
        "source": {
            "homepage": "https://github.com/princeton-nlp/EntityQuestions",
            "parts": {split: {"file": f"{name}-{split}.jsonl"} for split in splits},
        },
        "question": "{question}",
        "answer": "answers",
        "splits": {split: {"part": split, "rows": len(rows)} for split, rows in splits.items()},
    }


def table(facts: Sequence[Fact], right: Sequence[bool]) -> str:
    """A CSV of what was read how often, and whether the model answers the question right."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "relation", "split", "asked", "readings", "right"])
    for fact, known in zip(facts, right, strict=True):
        example = fact.example
        row = [example.id, fact.relation, example.split, int(fact.asked), fact.readings, int(known)]
        writer.writerow(row)
    return text.getvalue()


def by_readings(facts: Sequence[Fact], right: Sequence[bool]) -> list[dict[str, object]]:
    """Share of the questions answered right, by how often the fact was read: 0, 1, 2-3, 4-7 ..."""
    rows: list[dict[str, object]] = []
    for asked in (False, True):
        bands: dict[int, list[bool]] = {}
        for fact, known in zip(facts, right, strict=True):
            if fact.asked == asked:
                bands.setdefault(fact.readings.bit_length(), []).append(known)
        for band, found in sorted(bands.items()):
            low, high = (2 ** (band - 1), 2**band - 1) if band else (0, 0)
            share = round(sum(found) / len(found), 4)
            rows.append(
                {"asked": asked, "least": low, "most": high, "n": len(found), "right": share}
            )
    return rows
