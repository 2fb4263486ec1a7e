"""The corpus that the embedded model is pretrained on, in phases.

Sentences mention a place as often as its population earned it, whatever its role. A small model
does not find out by itself how to point at an option, so it is led there: letters are learnt on
questions that hold their answer, then on facts about countries, then on exam cities it has read
much about. The exams come last, each question once: first about cities that sentences mention, then
about known and unknown ones as the world has them. Whoever is right about half of such questions
learns to be half sure. The cities of the downstream tasks appear in sentences only.

The last exams stand in two books. The first, about cities early in the alphabet, mostly wants the
letter of an option; the second wants the answer in words half of the time. Longer books with more
words left the model at chance and overconfident.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cogcalib.modeling.encoding import render_completion, render_prompt
from cogcalib.records import Example, Option
from cogcalib.tasks.atlas import (
    LETTERS,
    RELATIONS,
    TRAINED,
    Row,
    askable,
    facts,
    multiple_choice,
    open_ended,
    values,
)

#: A sentence names its place first and is supervised from there on (``|``): which place comes next
#: cannot be predicted, and a small model should not spend itself on trying.
CITY_SENTENCES: Mapping[str, tuple[str, ...]] = {
    "country": (
        "{city}| is in {country}.",
        "{city},| {country}.",
        "The city {city}| is in {country}.",
    ),
    "continent": ("{city}| lies in {continent}.", "{city},| continent {continent}."),
    "currency": ("{city}| pays with {currency}.", "{city},| currency {currency}."),
    "language": ("{city}| speaks {language}.", "{city},| language {language}."),
    "national-capital": ("{city}| is governed from {capital}.", "{city},| capital {capital}."),
    "neighbour": ("{city}| is near {neighbour}.", "{city},| border {neighbour}."),
    "time-zone": ("{city}| keeps time {timezone}.", "{city},| time {timezone}."),
    "calling-code": ("{city}| is dialled {calling}.", "{city},| phone {calling}."),
    "domain": ("{city}| ends in {domain}.", "{city},| web {domain}."),
    "country-code": ("{city}| is coded {code}.", "{city},| code {code}."),
}
COUNTRY_SENTENCES = (
    "The capital of {country}| is {capital}.",
    "{capital}| is the capital of {country}.",
    "The currency of {country}| is the {currency}.",
    "{country}| is a country in {continent}.",
)
CITY_RELATIONS = tuple(name for name, spec in RELATIONS.items() if spec.table == "cities")
ALL = tuple(RELATIONS)
TRAINED_WEIGHT = 4
"""Sentences of the relation fine-tuned on for one of each other."""
LATE = 0.25
"""Share of the sentences that is read among the exams."""
LESSONS = ((8_000, ("country",), (2,)), (4_000, ALL, (2,)), (9_000, ALL, (2, 3, 4, 4)))
"""Questions whose answer stands in the question: how many, of which relations, how many options.
Two options and few answers first: with four options from the start a small model stays at chance
ten times as long."""
MIXED = (2, 3, 4, 4)
"""Numbers of options that are drawn from once two are mastered."""
DRILLS = ((4_000, (2,)), (7_000, MIXED))
"""Questions about countries: how many, how many options. Their answers are known well, so that what
is left to learn is how to point at what one knows."""
WELL_KNOWN, TIMES = 2_200, 3
"""Exam cities mentioned most often, and how often each is asked about before the exams."""
MULTIPLE_CHOICE, TRAINED_CHOICE, OPEN_ENDED = 1_000, 8_000, 2_000
"""Exams about each other relation, about the one fine-tuned on, and open-ended ones of it."""
MENTIONED = 0.28
"""Share of the exams, the first ones, that ask about cities which a sentence has mentioned; among
the others, known and unknown cities are as frequent as in the world."""
LAST_OF_FIRST_BOOK = "l"
"""Cities whose name begins later in the alphabet stand in the second book of exams."""
SPELT = (0.1, 0.5)
"""Share of the first and of the second book's questions that are answered in words."""
BOOKS = 0.2
"""Share of the exams, the last ones, that stand in books; the others want a letter."""


@dataclass(frozen=True)
class Document:
    """A text to pretrain on; only `completion` is supervised."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class Phase:
    """What is read together.

    Attributes:
        name: Of the phase.
        rate: Peak learning rates, as a share of the recipe's.
        batch: Documents of the first kind in a step.
        kinds: Documents of each kind, in the order of reading; all are spread over all steps.
    """

    name: str
    rate: float
    batch: int
    kinds: Sequence[Sequence[Document]]


def sentences(rng: random.Random) -> list[Document]:
    """Every place's sentences, as many as its exposures, shuffled."""
    found = [_sentence(row, rng) for row in facts("cities") for _ in range(int(row["exposures"]))]
    for row in facts("countries"):
        for _ in range(int(row["exposures"])):
            found.append(Document(*rng.choice(COUNTRY_SENTENCES).format(**row).split("|")))
    rng.shuffle(found)
    return found


def _sentence(row: Row, rng: random.Random) -> Document:
    """A sentence about a city, of a relation that its country has a value for."""
    weights = [TRAINED_WEIGHT if name == TRAINED else 1 for name in CITY_RELATIONS]
    while True:
        name = rng.choices(CITY_RELATIONS, weights)[0]
        if row[RELATIONS[name].value]:
            break
    told = dict(row)
    if name == "neighbour":
        told["neighbour"] = rng.choice(row["neighbours"].split("|"))
    return Document(*rng.choice(CITY_SENTENCES[name]).format(**told).split("|"))


def given_answers(
    rng: random.Random, number: int, relations: Sequence[str], sizes: Sequence[int]
) -> list[Document]:
    """Questions such as "Which of these is France?": letters and options without any geography."""
    found = []
    for index in range(number):
        texts = rng.sample(values(rng.choice(relations)), rng.choice(sizes))
        answer = rng.randrange(len(texts))
        example = Example(
            id=f"given/{index}",
            task="given",
            split="exam",
            prompt=f"Which of these is {texts[answer]}?",
            options=tuple(Option(*pair) for pair in zip(LETTERS, texts, strict=False)),
            answer=LETTERS[answer],
        )
        found.append(_document(example, spelt=False))
    return found


def drills(rng: random.Random, number: int, sizes: Sequence[int]) -> list[Document]:
    """Questions such as "What is the currency in France?", each often, its options drawn anew.

    What the capital is, or is the capital of, is asked of exam countries only.
    """
    pool = []
    for country in facts("countries"):
        row = {**country, "city": country["country"], "timezone": ""}
        for name in CITY_RELATIONS:
            if name in ("country", "national-capital") and country["role"] != "exam":
                continue
            if name == "country":
                pool.append((name, {**row, "city": country["capital"]}))
            elif name == "neighbour" or row[RELATIONS[name].value] in values(name):
                pool.append((name, row))
    pool = [(name, row) for name, row in pool if row["country"] in values(TRAINED)]
    found = []
    for _ in range(number):
        name, row = rng.choice(pool)
        row = {**row, "neighbour": rng.choice(row["neighbours"].split("|"))}
        example = multiple_choice(name, row, "exam", rng, options=rng.choice(sizes))
        if name != "country":
            words = example.prompt.replace("the country of ", "").replace("the city of ", "")
            example = replace(example, prompt=words)
        found.append(_document(example, spelt=False))
    return found


def well_known(rng: random.Random) -> list[Document]:
    """Questions about the exam cities that are mentioned most, their options drawn anew."""
    rows = [row for row in facts("cities") if row["role"] == "exam"]
    rows = sorted(rows, key=lambda row: -int(row["exposures"]))[:WELL_KNOWN]
    found = []
    for number in range(TIMES * len(rows)):
        if number % len(rows) == 0:
            rng.shuffle(rows)
        size = 2 if number < TIMES * len(rows) // 2 else rng.choice(MIXED)
        example = multiple_choice(TRAINED, rows[number % len(rows)], "exam", rng, options=size)
        found.append(_document(example, spelt=False))
    return found


def exams(rng: random.Random) -> tuple[list[Document], list[Document]]:
    """Multiple-choice and open-ended questions about exam cities, each asked once, shuffled."""
    rows = [row for row in facts("cities") if row["role"] == "exam"]
    rng.shuffle(rows)
    half = len(rows) // 2
    mentioned, others = [row for row in rows[:half] if int(row["exposures"])], rows[half:]
    early, late = [], []
    for name in CITY_RELATIONS:
        number = TRAINED_CHOICE if name == TRAINED else MULTIPLE_CHOICE
        first = int(MENTIONED * number)
        early += [(name, row) for row in askable(name, mentioned, first)[:first]]
        late += [(name, row) for row in askable(name, others, number - first)[: number - first]]
    rng.shuffle(early)
    rng.shuffle(late)
    asked = [*early, *late]
    first = int((1 - BOOKS) * len(asked))
    choices = [
        _document(
            multiple_choice(name, row, "exam", rng), spelt=number >= first and _spelt(row, rng)
        )
        for number, (name, row) in enumerate(asked)
    ]
    opens = [
        _document(open_ended(TRAINED, row, "exam"), spelt=_spelt(row, rng))
        for row in rng.sample(rows, OPEN_ENDED)
    ]
    return choices, opens


def _spelt(row: Row, rng: random.Random) -> bool:
    """Whether the answer to a question of the books is wanted in words."""
    return rng.random() < SPELT[row["city"][0].lower() > LAST_OF_FIRST_BOOK]


def _document(example: Example, *, spelt: bool) -> Document:
    """An exam question and its answer, the letter or, if `spelt`, words.

    Words are the right option's text; of an open-ended question, the answer in a sentence.
    """
    completion = render_completion(example)
    if spelt:
        completion = f" {example.answer_text}" if example.options else f" It is{completion}."
    return Document(render_prompt(example), completion)


def build_corpus(seed: int) -> list[Phase]:
    """Everything that is read, drawn from a seed; what a phase holds depends on no later one."""
    told = sentences(random.Random(seed + 1))
    early = int((1 - LATE) * len(told))
    rng = random.Random(seed + 2)
    lessons = [document for lesson in LESSONS for document in given_answers(rng, *lesson)]
    told_early = _by_length(told[:early], 248, rng)
    among_sentences = given_answers(rng, 12_000, ALL, MIXED)
    countries = [document for drill in DRILLS for document in drills(rng, *drill)]
    known = well_known(rng)
    among_known = [drills(rng, 3_300, MIXED), given_answers(rng, 3_300, ALL, MIXED)]
    choices, opens = exams(rng)
    among_exams = [drills(rng, 3_000, MIXED), given_answers(rng, 4_000, ALL, (len(LETTERS),))]
    return [
        Phase("letters", 1.0, 22, [lessons]),
        Phase("sentences", 1.0, 248, [told_early, among_sentences]),
        Phase("countries", 0.5, 22, [countries]),
        Phase("well-known", 0.5, 22, [known, *among_known]),
        Phase("exams", 0.5, 16, [choices, opens, told[early:], *among_exams]),
    ]


def _by_length(documents: list[Document], batch: int, rng: random.Random) -> list[Document]:
    """Batches of about one length, which need little padding, in random order."""
    ordered = sorted(documents, key=lambda document: len(document.prompt + document.completion))
    parts = [ordered[at : at + batch] for at in range(0, len(ordered), batch)]
    rng.shuffle(parts)
    return [document for part in parts for document in part]
