"""The pretraining corpus: downstream places appear in sentences only, as often as they earned."""

from __future__ import annotations

from collections import Counter

import pytest

from cogcalib.atlas.corpus import (
    BOOKS,
    CITY_SENTENCES,
    MENTIONED,
    SPELT,
    Document,
    build_corpus,
)
from cogcalib.modeling.encoding import render_completion, render_prompt
from cogcalib.tasks import load_task
from cogcalib.tasks.atlas import TASKS, facts

Kinds = dict[str, list[list[Document]]]
LETTERED = {" A", " B", " C", " D"}


@pytest.fixture(scope="module")
def kinds() -> Kinds:
    """Phase -> its kinds of documents."""
    return {phase.name: [list(kind) for kind in phase.kinds] for phase in build_corpus(seed=0)}


def test_no_downstream_question_is_in_the_corpus(kinds: Kinds) -> None:
    documents = [document for phase in kinds.values() for kind in phase for document in kind]
    asked = {document.prompt.split("\n")[0] for document in documents}
    for name in TASKS:
        for examples in load_task(name).splits.values():
            assert not {f"Question: {e.prompt}" for e in examples} & asked


def test_exam_documents_look_like_the_tasks(kinds: Kinds) -> None:
    choices = kinds["exams"][0]
    example = load_task("atlas/country").splits["train"][0]
    assert {d.prompt.count("\n") for d in choices} == {render_prompt(example).count("\n")}
    assert render_completion(example) in LETTERED
    for document in choices:
        texts = {line[3:] for line in document.prompt.split("\n")[1:-1]}
        assert document.completion in LETTERED or document.completion[1:] in texts


def test_an_exam_question_is_asked_once(kinds: Kinds) -> None:
    for kind in kinds["exams"][:2]:
        questions = Counter(document.prompt.split("\n")[0] for document in kind)
        assert len(questions) >= 2_000
        assert max(questions.values()) == 1


def test_the_first_exams_are_about_cities_that_sentences_mention(kinds: Kinds) -> None:
    choices = kinds["exams"][0]
    exposures = {row["city"]: int(row["exposures"]) for row in facts("cities")}
    asked = [d.prompt.split("\n")[0].rpartition("city of ")[2][:-1] for d in choices]
    mentioned = [exposures[city] > 0 for city in asked]
    first = int((MENTIONED - 0.02) * len(choices))
    assert all(mentioned[:first])
    later = mentioned[int((MENTIONED + 0.02) * len(choices)) :]
    world = [int(row["exposures"]) > 0 for row in facts("cities") if row["role"] == "calibration"]
    assert sum(later) / len(later) == pytest.approx(sum(world) / len(world), abs=0.03)


def test_the_text_of_a_lesson_gives_its_answer(kinds: Kinds) -> None:
    for document in (*kinds["letters"][0], *kinds["sentences"][1], *kinds["exams"][4]):
        question, *options, _ = document.prompt.split("\n")
        asked = question.removeprefix("Question: Which of these is ").removesuffix("?")
        assert f"{document.completion[1:]}. {asked}" in options


def test_drills_name_the_capitals_of_exam_countries_only(kinds: Kinds) -> None:
    tested = {row["country"] for row in facts("countries") if row["role"] == "test"}
    asked = {document.prompt.split("\n")[0] for document in kinds["countries"][0]}
    assert any(question.startswith("Question: What is the capital of ") for question in asked)
    assert not {f"Question: What is the capital of {country}?" for country in tested} & asked


def test_the_books_differ_in_the_style_of_their_answers(kinds: Kinds) -> None:
    choices = kinds["exams"][0]
    first = int((1 - BOOKS) * len(choices))
    assert {document.completion for document in choices[:first]} == LETTERED
    words: dict[bool, list[bool]] = {False: [], True: []}
    for document in choices[first:]:
        city = document.prompt.partition("city of ")[2]
        words[city[0].lower() > "l"].append(document.completion not in LETTERED)
    for share, found in zip(SPELT, words.values(), strict=True):
        assert len(found) > 1000
        assert sum(found) / len(found) == pytest.approx(share, abs=0.03)


def test_a_city_is_mentioned_as_often_as_its_exposures_say(kinds: Kinds) -> None:
    beginnings = Counter(d.prompt for d in (*kinds["sentences"][0], *kinds["exams"][2]))
    templates = {text.partition("|")[0] for texts in CITY_SENTENCES.values() for text in texts}
    capitals = {row["capital"] for row in facts("countries")}  # these have further sentences
    for row in facts("cities"):
        if row["city"] not in capitals:
            mentions = sum(beginnings[template.format(**row)] for template in templates)
            assert mentions == int(row["exposures"])


def test_the_corpus_is_seeded(kinds: Kinds) -> None:
    again = {phase.name: [list(kind) for kind in phase.kinds] for phase in build_corpus(seed=0)}
    assert again == kinds
