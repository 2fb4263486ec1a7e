"""The pretraining corpus: downstream places appear in sentences only, as often as they earned."""

from __future__ import annotations

from collections import Counter

import pytest

from cogcalib.atlas.corpus import Document, build_corpus
from cogcalib.modeling.encoding import render_completion, render_prompt
from cogcalib.tasks import load_task
from cogcalib.tasks.atlas import facts


@pytest.fixture(scope="module")
def corpus() -> list[Document]:
    return build_corpus(seed=0)


def test_no_downstream_question_is_in_the_corpus(corpus: list[Document]) -> None:
    asked = {d.prompt.split("\n")[0] for d in corpus if d.prompt}
    for name in ("atlas/country", "atlas/capital", "atlas/currency", "atlas/continent"):
        for examples in load_task(name).splits.values():
            assert not {f"Question: {e.prompt}" for e in examples} & asked


def test_exam_documents_look_like_the_tasks(corpus: list[Document]) -> None:
    shapes = {d.prompt.count("\n") for d in corpus if d.prompt}
    example = load_task("atlas/country").splits["train"][0]
    assert render_prompt(example).count("\n") in shapes
    letters = {d.completion for d in corpus if "\nD. " in d.prompt}
    assert letters == {" A", " B", " C", " D"}
    assert render_completion(example) in letters


def test_a_city_is_mentioned_as_often_as_its_exposures_say(corpus: list[Document]) -> None:
    sentences = Counter(d.completion for d in corpus if not d.prompt)
    counts: Counter[str] = Counter()
    cities = [row for row in facts("cities") if row["role"] == "test" and len(row["city"]) > 8]
    for sentence, number in sentences.items():
        for row in cities[:200]:
            if row["city"] in sentence and row["country"] in sentence:
                counts[row["city"]] += number
    for row in cities[:200]:
        assert counts[row["city"]] == int(row["exposures"])


def test_the_corpus_is_seeded() -> None:
    assert build_corpus(seed=1)[:50] == build_corpus(seed=1)[:50]
