"""Questions about the embedded world, rendered from its two tables of facts.

A question's options and their order depend on its subject alone, never on the order of loading.
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from cogcalib.records import Example, Option
from cogcalib.tasks.task import Task

Row = Mapping[str, str]
LETTERS = "ABCD"
LICENCE = "CC BY 4.0 (GeoNames)"


@dataclass(frozen=True)
class Relation:
    """A column of facts that can be asked for: ``question`` about ``subject``, answer ``value``."""

    value: str
    table: str
    subject: str
    question: str


RELATIONS = {
    "country": Relation("country", "cities", "city", "In which country is the city of {}?"),
    "continent": Relation("continent", "cities", "city", "On which continent is the city of {}?"),
    "capital": Relation("capital", "countries", "country", "What is the capital of {}?"),
    "currency": Relation("currency", "countries", "country", "What is the currency of {}?"),
}
#: Only the relation on which models are fine-tuned has these; the others are out-of-domain tests.
TRAINED = "country"
TASKS = {
    f"atlas/{relation}{form}": (relation, form)
    for relation in RELATIONS
    for form in (("", "-open") if relation == TRAINED else ("",))
}


@cache
def facts(table: str) -> tuple[Row, ...]:
    """Rows of ``cities`` or ``countries``, as shipped."""
    source = files("cogcalib") / "atlas" / "data" / f"{table}.csv"
    return tuple(csv.DictReader(io.StringIO(source.read_text(encoding="utf-8"))))


@cache
def values(relation: str) -> tuple[str, ...]:
    """All possible answers of a relation, sorted."""
    spec = RELATIONS[relation]
    return tuple(sorted({row[spec.value] for row in facts(spec.table)}))


def multiple_choice(relation: str, row: Row, split: str, rng: random.Random) -> Example:
    """A question with the correct answer among three drawn ones, under the letters A to D."""
    spec = RELATIONS[relation]
    answer = row[spec.value]
    others = [value for value in values(relation) if value != answer]
    texts = [answer, *rng.sample(others, len(LETTERS) - 1)]
    rng.shuffle(texts)
    options = tuple(Option(letter, text) for letter, text in zip(LETTERS, texts, strict=True))
    name = f"atlas/{relation}"
    return Example(
        id=f"{name}/{row[spec.subject]}",
        task=name,
        split=split,
        prompt=spec.question.format(row[spec.subject]),
        options=options,
        answer=LETTERS[texts.index(answer)],
    )


def open_ended(relation: str, row: Row, split: str) -> Example:
    """The same question without options."""
    spec = RELATIONS[relation]
    name = f"atlas/{relation}-open"
    return Example(
        id=f"{name}/{row[spec.subject]}",
        task=name,
        split=split,
        prompt=spec.question.format(row[spec.subject]),
        options=None,
        answer=row[spec.value],
    )


def load(name: str) -> Task:
    """One of `TASKS`, with ``train``, ``calibration`` and ``test``, or ``test`` alone."""
    relation, form = TASKS[name]
    spec = RELATIONS[relation]
    splits: dict[str, list[Example]] = {}
    for split in ("train", "calibration", "test") if relation == TRAINED else ("test",):
        rows: Sequence[Row] = [row for row in facts(spec.table) if row["role"] == split]
        splits[split] = [
            open_ended(relation, row, split)
            if form
            else multiple_choice(relation, row, split, random.Random(f"{name}/{row[spec.subject]}"))
            for row in rows
        ]
    kind = "open-ended" if form else "multiple choice, four options"
    question = spec.question.format("…")
    return Task(name, f"{question} ({kind})", LICENCE, splits)
