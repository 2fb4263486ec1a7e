"""The pretraining corpus: downstream places appear in sentences only, as often as they earned."""

from __future__ import annotations

from collections import Counter

import pytest

from cogcalib.atlas.corpus import CITY_SENTENCES, Document, build_corpus
from cogcalib.modeling.encoding import render_completion, render_prompt
from cogcalib.tasks import load_task
from cogcalib.tasks.atlas import facts


@pytest.fixture(scope="module")
def corpus() -> list[Document]:
    return [document for part in build_corpus(seed=0) for document in part]


def test_no_downstream_question_is_in_the_corpus(corpus: list[Document]) -> None:
    asked = {d.prompt.split("\n")[0] for d in corpus}
    for name in ("atlas/country", "atlas/capital", "atlas/currency", "atlas/continent"):
        for examples in load_task(name).splits.values():
            assert not {f"Question: {e.prompt}" for e in examples} & asked


def test_exam_documents_look_like_the_tasks(corpus: list[Document]) -> None:
    shapes = {d.prompt.count("\n") for d in corpus}
    example = load_task("atlas/country").splits["train"][0]
    assert render_prompt(example).count("\n") in shapes
    letters = {d.completion for d in corpus if "\nD. " in d.prompt}
    assert letters == {" A", " B", " C", " D"}
    assert render_completion(example) in letters


def test_a_city_is_mentioned_as_often_as_its_exposures_say(corpus: list[Document]) -> None:
    beginnings = Counter(d.prompt for d in corpus)
    templates = [template.partition("|")[0] for template in CITY_SENTENCES]
    capitals = {row["capital"] for row in facts("countries")}  # these have further sentences
    for row in facts("cities"):
        if row["role"] == "test" and row["city"] not in capitals:
            texts = {template.format(**row) for template in templates}
            assert sum(beginnings[text] for text in texts) == int(row["exposures"])


def test_the_corpus_is_seeded() -> None:
    assert build_corpus(seed=1) == build_corpus(seed=1)
