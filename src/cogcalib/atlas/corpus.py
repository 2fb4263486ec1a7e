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
from cogcalib.records import Example, Option
from cogcalib.tasks.atlas import (
    LETTERS,
    RELATIONS,
    TRAINED,
    Row,
    facts,
    multiple_choice,
    open_ended,
    values,
)

#: Documents of each kind per exam subject: of the relation fine-tuned on, and of the others.
MULTIPLE_CHOICE = {TRAINED: 40}
OPEN_ENDED = {TRAINED: 24}
OTHERS = 10
DRILL = 12
#: Questions whose answer stands in the question.
GIVEN = 24_000
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
                many, few = MULTIPLE_CHOICE.get(relation, OTHERS), OPEN_ENDED.get(relation, OTHERS)
                yield from _exams_about(relation, row, rng, many, few)


def _exams_about(
    relation: str, row: Row, rng: random.Random, choices: int, opens: int
) -> Iterator[Document]:
    for _ in range(choices):
        example = multiple_choice(relation, row, "exam", rng)
        yield Document(render_prompt(example), render_completion(example))
    for _ in range(opens):
        example = open_ended(relation, row, "exam")
        yield Document(render_prompt(example), render_completion(example))


def given_answers(rng: random.Random) -> Iterator[Document]:
    """Questions such as "Which of these is France?": letters and options without any geography.

    A small model finds out how lettered options work within a few hundred steps on these. Where
    it must learn the facts at the same time it stays at chance ten times as long.
    """
    names = values(TRAINED)
    for number in range(GIVEN):
        texts = rng.sample(names, len(LETTERS))
        answer = rng.randrange(len(LETTERS))
        example = Example(
            id=f"given/{number}",
            task="given",
            split="exam",
            prompt=f"Which of these is {texts[answer]}?",
            options=tuple(Option(*pair) for pair in zip(LETTERS, texts, strict=True)),
            answer=LETTERS[answer],
        )
        yield Document(render_prompt(example), render_completion(example))


def practice(seed: int, *, drill: bool) -> list[list[Document]]:
    """Multiple-choice exams, given answers, open exams and sentences, drawn anew, each shuffled.

    With `drill` also questions about cities that were never an exam before.
    """
    rng = random.Random(seed + (2 if drill else 1))
    questions = list(exams(rng))
    if drill:
        for row in facts("cities"):
            if row["role"] == "drill":
                questions += _exams_about(TRAINED, row, rng, DRILL, DRILL // 2)
    kinds = [
        [question for question in questions if "\nD. " in question.prompt],
        list(given_answers(rng)),
        [question for question in questions if "\nD. " not in question.prompt],
        list(sentences(rng)),
    ]
    for documents in kinds:
        rng.shuffle(documents)
    return kinds


def build_corpus(seed: int) -> list[list[Document]]:
    """Documents to train on in turn: how the formats work, then the world; each part shuffled."""
    rng = random.Random(seed)
    questions = list(exams(rng))
    open_questions = [question for question in questions if "\nD. " not in question.prompt]
    formats = [*given_answers(rng), *open_questions]
    world = [*sentences(rng), *questions]
    rng.shuffle(formats)
    rng.shuffle(world)
    return [formats, world]
