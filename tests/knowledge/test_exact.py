"""Exact mode against enumeration of all answers, in float64, and its independence of the batch."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from probe_world import (
    backend_of,
    build_choices,
    build_model,
    build_prompts,
    build_questions,
    build_tokenizer,
)
from transformers import LlamaConfig, LlamaForCausalLM

from cogcalib.knowledge import SlickSettings, assess
from cogcalib.knowledge.candidates import TokenizedQuestion
from cogcalib.knowledge.exact import answer_exactly, odds_of_accepted
from cogcalib.records import Example
from cogcalib.scoring import score

VOCABULARY = 7
ENDS = (2, 5)
LONGEST = 4


@pytest.fixture(scope="module")
def small() -> LlamaForCausalLM:
    """So few tokens that every answer can be listed."""
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, initializer_range=0.5,
    )  # fmt: skip
    return LlamaForCausalLM(config).double().eval()


def every_answer(model, prompt, temperature, top_k):
    """Token sequences before the end -> probability, by walking the whole tree."""
    found: dict[tuple[int, ...], float] = {}

    def walk(answer: tuple[int, ...], p: float) -> None:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0, -1].tolist()
        kept = sorted(range(VOCABULARY), key=lambda v: -logits[v])[: top_k or VOCABULARY]
        weights = {v: math.exp(logits[v] / temperature) for v in kept}
        for token, weight in weights.items():
            q = p * weight / sum(weights.values())
            if token in ENDS:
                found[answer] = found.get(answer, 0.0) + q
            elif len(answer) < LONGEST:
                walk((*answer, token), q)

    walk((), 1.0)
    return found


answers = st.sets(
    st.lists(st.sampled_from([0, 1, 3, 4, 6]), min_size=1, max_size=3).map(tuple),
    min_size=1,
    max_size=6,
)


@settings(max_examples=15)
@given(answers, st.sampled_from([0.5, 1.0]), st.sampled_from([0, 3, 40]))
def test_it_is_the_sum_over_all_answers_there_are(small, accepted, temperature, top_k):
    prompt = [1, 4, 0, 6]
    chosen = SlickSettings(temperature=temperature, top_k=top_k)
    asked = TokenizedQuestion(
        Example("q", "t", "train", "?", None, "x"), prompt, tuple(sorted(accepted))
    )
    (found,) = odds_of_accepted(backend_of(small), [asked], [prompt], ENDS, chosen)
    listed = every_answer(small, prompt, temperature, top_k)
    expected = sum(listed.get(answer, 0.0) for answer in accepted)
    assert found.sampled == pytest.approx(expected, abs=1e-12)
    assert found.sampled == found.strict
    greedy = []
    with torch.no_grad():
        while not greedy or (greedy[-1] not in ENDS and len(greedy) < 9):
            logits = small(input_ids=torch.tensor([[*prompt, *greedy]])).logits[0, -1]
            greedy.append(int(logits.argmax()))
    assert found.greedy == (tuple(greedy[:-1]) in accepted and greedy[-1] in ENDS)


def test_the_probabilities_of_all_answers_add_up(small):
    """With every answer up to a length accepted, what is missing goes on beyond it."""
    tokens = [token for token in range(VOCABULARY) if token not in ENDS]
    accepted = [a for n in range(1, 4) for a in itertools.product(tokens, repeat=n)]
    asked = TokenizedQuestion(Example("q", "t", "train", "?", None, "x"), [1, 3], tuple(accepted))
    (found,) = odds_of_accepted(backend_of(small), [asked], [[1, 3]], ENDS, SlickSettings())
    listed = every_answer(small, [1, 3], 0.5, 40)
    expected = sum(p for answer, p in listed.items() if 0 < len(answer) <= 3)
    assert found.sampled == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("options", [0, 4])
def test_neither_order_nor_batch_nor_company_matter(options):
    questions = build_choices(6, options) if options else build_questions()
    prompts = build_prompts(questions, shots=0 if options else 2)
    tokenizer, model = build_tokenizer(), build_model()
    rows = {r.example.id: r for r in assess(model, tokenizer, questions, prompts)}
    shuffled = random.Random(0).sample(questions, len(questions))
    for examples, batch_size in ((shuffled, 3), ([questions[2]], None), (questions[3:5], 1)):
        chosen = SlickSettings(batch_size=batch_size)
        for row in assess(model, tokenizer, examples, prompts, chosen):
            expected = rows[row.example.id]
            assert row.sampled == pytest.approx(expected.sampled, rel=1e-9)
            assert row.signals.nll == pytest.approx(expected.signals.nll, rel=1e-9)
            assert (row.greedy, row.category, row.prompt_ids) == (
                expected.greedy, expected.category, expected.prompt_ids,
            )  # fmt: skip


def test_aliases_count_once_each_and_only_add():
    tokenizer, model = build_tokenizer(), build_model()
    questions = [replace(question, aliases=()) for question in build_questions(4)]
    more = [replace(q, aliases=("it", q.answer, f" {q.answer} ", "it")) for q in questions]
    prompts = build_prompts(build_questions(), shots=2)
    alone = answer_exactly(backend_of(model, tokenizer), questions, prompts)
    both = answer_exactly(backend_of(model, tokenizer), more, prompts)
    other = [replace(question, answer="it") for question in questions]
    it = answer_exactly(backend_of(model, tokenizer), other, prompts)
    for row in range(4):
        for one, two, three in zip(alone[row], it[row], both[row], strict=True):
            assert three.sampled == pytest.approx(one.sampled + two.sampled, rel=1e-9)


def test_greedy_zero_shot_is_what_scoring_generates():
    tokenizer, model = build_tokenizer(), build_model(seed=1)
    questions = build_questions()
    generated = [p.prediction for p in score(model, tokenizer, questions)]
    # Scoring goes on behind a line break where nothing was shown; here it ends an answer.
    texts = ["?" if "\n" in text or not text else text for text in generated]
    assert sum(text != "?" for text in texts) > 3
    told = [replace(q, answer=text) for q, text in zip(questions, texts, strict=True)]
    prompts = build_prompts(questions, shots=0)
    right = [row[0].greedy for row in answer_exactly(backend_of(model, tokenizer), told, prompts)]
    # A text may have been spelt with other tokens than the tokenizer's; never the other way round.
    for prediction, exactly in zip(score(model, tokenizer, told), right, strict=True):
        assert prediction.correct or not exactly


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (build_choices(1)[0], "multiple choice, not open-ended"),
        (replace(build_questions(1)[0], answer="one\nline"), "none of which ends an answer"),
    ],
)
def test_what_cannot_be_judged_is_refused(example, message):
    prompts = build_prompts(build_questions(), shots=2)
    with pytest.raises(ValueError, match=message):
        answer_exactly(backend_of(build_model()), [example], prompts)


def test_a_prompt_longer_than_the_model_is_refused():
    long = replace(build_questions(1)[0], prompt="In which country is " * 200)
    with pytest.raises(ValueError, match="the model has 512 positions; use fewer shots"):
        answer_exactly(
            backend_of(build_model()),
            [long],
            build_prompts([long], shots=0),
        )
