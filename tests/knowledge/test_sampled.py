"""Sampled mode: its frequencies are the exact probabilities, its draws those of the question."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from probe_world import backend_of, build_model, build_prompts, build_questions, build_tokenizer
from scipy.stats import binomtest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.knowledge import Prompt, SlickSettings, assess, draw_prompts
from cogcalib.knowledge.exact import answer_exactly
from cogcalib.knowledge.sampled import answer_by_sampling
from cogcalib.modeling import load_model
from cogcalib.records import Example
from cogcalib.tasks import load_task

SAMPLES = 2000


def share_inside(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    prompt: Prompt,
) -> float:
    """Share of the examples whose exact probability lies in the 99 % Clopper-Pearson interval."""
    chosen = SlickSettings(mode="sampled", samples=SAMPLES)
    exact = answer_exactly(backend_of(model, tokenizer), examples, [prompt])
    sampled = answer_by_sampling(backend_of(model, tokenizer), examples, [prompt], chosen)
    inside = 0
    for (one,), (other,) in zip(exact, sampled, strict=True):
        hits = round(other.strict * SAMPLES)
        interval = binomtest(hits, SAMPLES).proportion_ci(0.99, "exact")
        inside += interval.low <= one.sampled <= interval.high
        assert other.sampled >= other.strict
    return inside / len(examples)


def on_atlas(count: int, seed: int) -> float:
    model, tokenizer = load_model("atlas")
    splits = load_task("atlas/country-open").splits
    (prompt,) = draw_prompts(splits["train"], {}, ["atlas/country-open"], prompts=1, seed=seed)[
        "atlas/country-open"
    ]
    return share_inside(model, tokenizer, splits["test"][:count], prompt)


def test_frequencies_are_the_exact_probabilities_on_atlas():
    assert on_atlas(24, seed=0) == 1.0


@pytest.mark.slow
def test_frequencies_are_the_exact_probabilities_on_all_of_atlas():
    assert on_atlas(1000, seed=1) >= 0.99


@pytest.mark.slow
def test_frequencies_are_the_exact_probabilities_on_entity_questions(shared_data):
    """The questions SliCK was made for, some with many aliases."""
    task = load_task("entity_questions/P17", shared_data)
    model, tokenizer = load_model("atlas")
    (prompt,) = draw_prompts(task.splits["train"], {}, [task.name], prompts=1, shots=1)[task.name]
    assert share_inside(model, tokenizer, task.splits["test"][:16], prompt) == 1.0


@pytest.mark.slow
def test_frequencies_are_the_exact_probabilities_on_every_relation(shared_data):
    task = load_task("entity_questions", shared_data)
    model, tokenizer = load_model("atlas")
    groups: dict[str, list[Example]] = {}
    for example in task.splits["test"]:
        groups.setdefault(task.group_of[example.id], []).append(example)
    drawn = draw_prompts(task.splits["train"], task.group_of, list(groups), prompts=1)
    shares = [
        share_inside(model, tokenizer, members[:10], drawn[group][0])
        for group, members in groups.items()
    ]
    assert sum(shares) / len(shares) >= 0.99


def test_neither_order_nor_batch_nor_company_change_a_draw():
    questions = build_questions()
    prompts = build_prompts(questions)
    tokenizer, model = build_tokenizer(), build_model(spread=0.15)
    chosen = SlickSettings(mode="sampled", samples=20, max_new_tokens=12)
    rows = {r.example.id: r for r in assess(model, tokenizer, questions, prompts, chosen)}
    shuffled = random.Random(0).sample(questions, len(questions))
    for examples, batch_size in ((shuffled, 5), ([questions[4]], None), (questions[1:4], 1)):
        again = SlickSettings(mode="sampled", samples=20, max_new_tokens=12, batch_size=batch_size)
        for row in assess(model, tokenizer, examples, prompts, again):
            expected = rows[row.example.id]
            assert (row.sampled, row.strict) == (expected.sampled, expected.strict)
            assert (row.greedy, row.category) == (expected.greedy, expected.category)


def test_another_seed_draws_other_answers():
    questions = load_task("atlas/country-open").splits["test"][:12]
    model, tokenizer = load_model("atlas")
    prompts = [Prompt(0, (), None)]
    first, second, first_again = (
        answer_by_sampling(
            backend_of(model, tokenizer),
            questions,
            prompts,
            SlickSettings(mode="sampled", seed=seed),
        )
        for seed in (0, 1, 0)
    )
    assert first == first_again
    assert first != second


def test_greedy_answers_agree_with_exact_mode():
    questions = load_task("atlas/country-open").splits["test"][:40]
    model, tokenizer = load_model("atlas")
    prompts = draw_prompts(questions, {}, ["atlas/country-open"], prompts=2, shots=1)
    chosen = SlickSettings(mode="sampled", samples=1)
    exact = answer_exactly(backend_of(model, tokenizer), questions, prompts["atlas/country-open"])
    drawn = answer_by_sampling(
        backend_of(model, tokenizer), questions, prompts["atlas/country-open"], chosen
    )
    found = [[each.greedy for each in row] for row in exact]
    assert found == [[each.greedy for each in row] for row in drawn]
    assert {right for row in found for right in row} == {True, False}


def test_an_answer_too_long_to_generate_is_refused():
    questions = build_questions()
    chosen = SlickSettings(mode="sampled", max_new_tokens=1)
    with pytest.raises(ValueError, match="max_new_tokens must be at least"):
        answer_by_sampling(
            backend_of(build_model()),
            questions,
            build_prompts(questions),
            chosen,
        )
