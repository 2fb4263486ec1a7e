"""The corpus that the embedded model is pretrained on: sentences and exam questions.

Sentences mention a place as often as its population earned it. Exam cities and exam countries also
appear as questions, so that the model knows the two formats; the places of the downstream tasks
never do. Exam documents render exactly as the tasks render theirs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from cogcalib.modeling.encoding import render_completion, render_prompt
from cogcalib.tasks.atlas import RELATIONS, TRAINED, Row, facts, multiple_choice, open_ended

#: Documents of each kind per exam subject: of the relation fine-tuned on, and of the others.
MULTIPLE_CHOICE = {TRAINED: 60}
OPEN_ENDED = {TRAINED: 30}
OTHERS = 10
#: A sentence names its place first and is supervised from there on (``|``): which place comes next
#: cannot be predicted, and a small model should not spend itself on trying.
CITY_SENTENCES = (
    "{city}| is a city in {country}.",
    "The city of {city}| is in {country}.",
    "{city}| lies in {country}, in {continent}.",
    "People in {city}| live in {country}.",
    "The mayor of {city},| {country}, spoke today.",
)
COUNTRY_SENTENCES = (
    "The capital of {country}| is {capital}.",
    "{capital}| is the capital of {country}.",
    "The currency of {country}| is the {currency}.",
    "In {country}| people pay with the {currency}.",
    "{country}| is a country in {continent}.",
)


@dataclass(frozen=True)
class Document:
    """A text to pretrain on; only `completion` is supervised."""

    prompt: str
    completion: str


def sentences(rng: random.Random) -> Iterator[Document]:
    """Every place's sentences, as many as its exposures (an exam city: at least thirty)."""
    for row in facts("cities"):
        count = int(row["exposures"])
        for _ in range(max(count, 30) if row["role"] == "exam" else count):
            yield Document(*rng.choice(CITY_SENTENCES).format(**row).split("|"))
    for row in facts("countries"):
        for _ in range(int(row["exposures"])):
            yield Document(*rng.choice(COUNTRY_SENTENCES).format(**row).split("|"))


def exams(rng: random.Random) -> Iterator[Document]:
    """Exam subjects as multiple-choice and open-ended questions, options drawn anew each time."""
    for relation, spec in RELATIONS.items():
        for row in facts(spec.table):
            if row["role"] == "exam":
                yield from _exams_about(relation, row, rng)


def _exams_about(relation: str, row: Row, rng: random.Random) -> Iterator[Document]:
    for _ in range(MULTIPLE_CHOICE.get(relation, OTHERS)):
        example = multiple_choice(relation, row, "exam", rng)
        yield Document(render_prompt(example), render_completion(example))
    for _ in range(OPEN_ENDED.get(relation, OTHERS)):
        example = open_ended(relation, row, "exam")
        yield Document(render_prompt(example), render_completion(example))


def build_corpus(seed: int) -> list[Document]:
    """All documents, shuffled."""
    rng = random.Random(seed)
    documents = [*sentences(rng), *exams(rng)]
    rng.shuffle(documents)
    return documents
