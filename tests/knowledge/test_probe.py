"""The probe: rotations, categories, and what open-ended knowledge means."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from cogcalib.atlas.tokenizer import train_tokenizer
from cogcalib.knowledge import probe, renderings
from cogcalib.modeling import encode, load_model, render_prompt
from cogcalib.records import Example, Option
from cogcalib.scoring import score
from cogcalib.tasks import load_task


def question(number: int) -> Example:
    texts = ["red", "blue", "green", "grey"]
    options = tuple(Option(letter, text) for letter, text in zip("ABCD", texts, strict=True))
    return Example(f"q{number}", "t", "train", f"What is colour {number}?", options, "ABCD"[number])


EXAMPLES = [question(number) for number in range(4)]


@pytest.fixture(scope="module")
def tiny() -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    torch.manual_seed(0)
    tokenizer = train_tokenizer([render_prompt(e) + " A B C D" for e in EXAMPLES], 320)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
    )
    return LlamaForCausalLM(config).eval(), tokenizer


def test_every_rotation_is_asked(tiny: tuple[LlamaForCausalLM, PreTrainedTokenizerBase]) -> None:
    model, tokenizer = tiny
    done: list[int] = []
    records = probe(model, tokenizer, EXAMPLES, progress=done.append)
    assert done[-1] == renderings(EXAMPLES) == 16
    for example, record in zip(EXAMPLES, records, strict=True):
        asked = [
            score(model, tokenizer, [example.reordered([(k + turn) % 4 for k in range(4)])])[0]
            for turn in range(4)
        ]
        right = [prediction.correct for prediction in asked]
        assert record.id == example.id
        assert record.share_right == sum(right) / 4
        assert record.p_gold == pytest.approx(sum(math.exp(-p.nll) for p in asked) / 4, abs=1e-6)
        expected = "known" if all(right) else "unknown" if sum(right) <= 1 else "doubtful"
        assert record.category == expected


def test_a_model_that_loves_a_letter_knows_nothing(
    tiny: tuple[LlamaForCausalLM, PreTrainedTokenizerBase],
) -> None:
    model, tokenizer = tiny
    letter = encode(EXAMPLES[2], tokenizer).answer_ids[0]
    head = model.get_output_embeddings()
    bias = torch.zeros(head.out_features)
    bias[letter] = 100.0
    hook = head.register_forward_hook(lambda module, inputs, output: output + bias)
    try:
        records = probe(model, tokenizer, EXAMPLES)
    finally:
        hook.remove()
    assert {record.share_right for record in records} == {0.25}
    assert {record.category for record in records} == {"unknown"}


def test_nll_is_that_of_the_supervised_tokens(
    tiny: tuple[LlamaForCausalLM, PreTrainedTokenizerBase],
) -> None:
    model, tokenizer = tiny
    for example, record in zip(EXAMPLES, probe(model, tokenizer, EXAMPLES), strict=True):
        row = encode(example, tokenizer)
        with torch.no_grad():
            loss = model(
                input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])
            ).loss
        assert record.nll == pytest.approx(loss.item(), rel=1e-5)


def test_open_ended_known_is_what_greedy_decoding_answers() -> None:
    model, tokenizer = load_model("atlas")
    examples = load_task("atlas/country-open").splits["train"][:80]
    records = probe(model, tokenizer, examples, batch_size=13)
    predictions = score(model, tokenizer, examples)
    labels = [p.prediction == e.answer for p, e in zip(predictions, examples, strict=True)]
    assert [record.category == "known" for record in records] == labels
    assert len(set(labels)) == 2
    for record, prediction in zip(records, predictions, strict=True):
        assert record.nll == pytest.approx(prediction.nll, abs=1e-5)


def test_the_embedded_model_knows_some_and_does_not_know_some() -> None:
    """What the shipped weights promise; measured on the downstream training questions."""
    model, tokenizer = load_model("atlas")
    examples = load_task("atlas/country").splits["train"]
    records = probe(model, tokenizer, examples, batch_size=128)
    share = {kind: n / len(records) for kind, n in Counter(r.category for r in records).items()}
    assert share["known"] >= 0.15
    assert share["unknown"] >= 0.15
    accuracy = sum(record.share_right for record in records) / len(records)
    assert 0.35 <= accuracy <= 0.9


@pytest.mark.parametrize("task", ["atlas/country", "atlas/country-open"])
def test_records_do_not_depend_on_the_batches(task: str) -> None:
    model, tokenizer = load_model("atlas")
    examples = load_task(task).splits["train"][:30]
    one, budget = (probe(model, tokenizer, examples, batch_size=size) for size in (1, None))
    for left, right in zip(one, budget, strict=True):
        assert (left.id, left.category) == (right.id, right.category)
        assert left.nll == pytest.approx(right.nll, abs=1e-5)
        assert left.p_gold == pytest.approx(right.p_gold, abs=1e-5)


def test_of_no_questions_nothing_is_known(
    tiny: tuple[LlamaForCausalLM, PreTrainedTokenizerBase],
) -> None:
    assert probe(*tiny, []) == []
