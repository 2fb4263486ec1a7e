"""Questions about the embedded world, rendered from its two tables of facts.

A question's options and their order depend on its subject alone, never on the order of loading.
How often an answer is asked for gives nothing away: wrong options are drawn evenly from all
answers, and all answers are right about equally often.
"""

from __future__ import annotations

import csv
import io
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from cogcalib.records import Example, Option
from cogcalib.tasks.task import Task

Row = Mapping[str, str]
LETTERS = "ABCD"
LICENCE = "CC BY 4.0 (GeoNames)"
QUESTIONS = 1200
"""Of a task that is only tested on, about; there are fewer countries than that."""
FEWEST = 200
"""Cities that an answer about cities must be true of; one of fewer is never asked for."""


@dataclass(frozen=True)
class Relation:
    """A column of facts that can be asked for: ``question`` about ``subject``, answer ``value``.

    Attributes:
        also: Further columns whose values, apart by ``|``, are no wrong answers either.
    """

    value: str
    table: str
    subject: str
    question: str
    also: tuple[str, ...] = ()


RELATIONS = {
    "country": Relation("country", "cities", "city", "In which country is the city of {}?"),
    "continent": Relation("continent", "cities", "city", "On which continent is the city of {}?"),
    "currency": Relation("currency", "cities", "city", "What is the currency in the city of {}?"),
    "language": Relation(
        "language",
        "cities",
        "city",
        "What is the main language of the country of the city of {}?",
        ("spoken",),
    ),
    "national-capital": Relation(
        "capital", "cities", "city", "What is the capital of the country of the city of {}?"
    ),
    "neighbour": Relation(
        "neighbour",
        "cities",
        "city",
        "Which country borders the country of the city of {}?",
        ("neighbours", "country"),
    ),
    "time-zone": Relation("timezone", "cities", "city", "In which time zone is the city of {}?"),
    "calling-code": Relation(
        "calling", "cities", "city", "What is the calling code of the city of {}?"
    ),
    "domain": Relation(
        "domain", "cities", "city", "What is the internet domain of the country of the city of {}?"
    ),
    "country-code": Relation(
        "code", "cities", "city", "What is the code of the country of the city of {}?"
    ),
    "capital": Relation("capital", "countries", "country", "What is the capital of {}?"),
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
    """Rows of ``cities``, with what is true of their country, or of ``countries``."""
    source = files("cogcalib") / "atlas" / "data" / f"{table}.csv"
    rows = tuple(csv.DictReader(io.StringIO(source.read_text(encoding="utf-8"))))
    if table == "countries":
        return rows
    countries = {row["country"]: row for row in facts("countries")}
    return tuple({**countries[row["country"]], **_neighbour(row, countries), **row} for row in rows)


def _neighbour(city: Row, countries: Mapping[str, Row]) -> Row:
    """One of the countries that border a city's, the city's own choice."""
    neighbours = countries[city["country"]]["neighbours"].split("|")
    return {"neighbour": random.Random(f"neighbour/{city['city']}").choice(neighbours)}


@cache
def values(relation: str) -> tuple[str, ...]:
    """All possible answers of a relation, sorted."""
    spec = RELATIONS[relation]
    counts = Counter(row[spec.value] for row in facts(spec.table))
    least = FEWEST if spec.table == "cities" else 1
    return tuple(sorted(value for value, n in counts.items() if value and n >= least))


def multiple_choice(
    relation: str, row: Row, split: str, rng: random.Random, options: int = len(LETTERS)
) -> Example:
    """A question with the correct answer among drawn ones, under the letters from A on."""
    spec = RELATIONS[relation]
    answer = row[spec.value]
    right = {answer, *(value for column in spec.also for value in row[column].split("|"))}
    others = [value for value in values(relation) if value not in right]
    texts = [answer, *rng.sample(others, options - 1)]
    rng.shuffle(texts)
    shown = zip(LETTERS, texts, strict=False)
    name = f"atlas/{relation}"
    return Example(
        id=f"{name}/{row[spec.subject]}",
        task=name,
        split=split,
        prompt=spec.question.format(row[spec.subject]),
        options=tuple(Option(letter, text) for letter, text in shown),
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


def askable(relation: str, rows: Iterable[Row], questions: int) -> list[Row]:
    """Rows to ask about: about `questions`, every answer as often as any other, in order.

    Of an answer that is true of too few rows all are taken.
    """
    spec = RELATIONS[relation]
    allowed = set(values(relation))
    rows = [row for row in rows if row[spec.value] in allowed]
    counts = Counter(row[spec.value] for row in rows)
    most = 1
    while sum(min(n, most) for n in counts.values()) < min(questions, len(rows)):
        most += 1
    taken: Counter[str] = Counter()
    chosen = []
    for row in rows:
        taken[row[spec.value]] += 1
        if taken[row[spec.value]] <= most:
            chosen.append(row)
    return chosen


def is_open_ended(name: str) -> bool:
    """Whether one of `TASKS` has no options."""
    return bool(TASKS[name][1])


def splits(name: str) -> list[str]:
    """The splits of one of `TASKS`."""
    relation, _ = TASKS[name]
    return ["train", "calibration", "test"] if relation == TRAINED else ["test"]


@cache
def load(name: str) -> Task:
    """One of `TASKS`, with ``train``, ``calibration`` and ``test``, or ``test`` alone.

    It is the same object each time: nobody may change its lists.
    """
    relation, form = TASKS[name]
    spec = RELATIONS[relation]
    found: dict[str, list[Example]] = {}
    for split in splits(name):
        rows: Sequence[Row] = [row for row in facts(spec.table) if row["role"] == split]
        if relation != TRAINED:
            rows = askable(relation, rows, QUESTIONS)
        found[split] = [
            open_ended(relation, row, split)
            if form
            else multiple_choice(relation, row, split, random.Random(f"{name}/{row[spec.subject]}"))
            for row in rows
        ]
    kind = "open-ended" if form else "multiple choice, four options"
    question = spec.question.format("…")
    return Task(name, f"{question} ({kind})", LICENCE, found)
