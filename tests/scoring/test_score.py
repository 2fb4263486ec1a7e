from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from cogcalib.jsonl import read_jsonl, write_jsonl
from cogcalib.records import Prediction
from cogcalib.scoring import ScoreSettings, answer_logits, score

named = partial(ScoreSettings, model_name="m", run="r")


@pytest.fixture
def dropout_model(tokenizer):
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=160,
        resid_pdrop=0.5,
        bos_token_id=1,
        eos_token_id=2,
    )
    return GPT2LMHeadModel(config).train()


@pytest.mark.parametrize("kind", ["choices", "questions"])
def test_dropout_is_off_while_scoring_and_back_on_after(request, dropout_model, tokenizer, kind):
    examples = request.getfixturevalue(kind)
    first = score(dropout_model, tokenizer, examples, named())
    assert first == score(dropout_model, tokenizer, examples, named())
    answer_logits(dropout_model, tokenizer, examples)
    assert all(module.training for module in dropout_model.modules())


@pytest.mark.parametrize("kind", ["choices", "questions"])
def test_progress_counts_up_to_all(request, llama, tokenizer, kind):
    seen: list[int] = []
    examples = request.getfixturevalue(kind)
    score(llama, tokenizer, examples, named(batch_size=3, progress=seen.append))
    assert seen == [3, 6, 8]


@pytest.mark.parametrize("kind", ["choices", "questions"])
def test_predictions_survive_a_file(request, llama, tokenizer, tmp_path, kind):
    rows = score(llama, tokenizer, request.getfixturevalue(kind), named())
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_jsonl(path, Prediction) == rows


def test_no_examples_no_predictions(llama, tokenizer):
    assert score(llama, tokenizer, [], named()) == []
    with pytest.raises(ValueError, match="examples is empty"):
        answer_logits(llama, tokenizer, [])


@pytest.mark.parametrize("call", [lambda *args: score(*args, named()), answer_logits])
def test_bad_examples_are_refused(llama, tokenizer, choices, questions, call):
    with pytest.raises(ValueError, match="all multiple choice or all open-ended, got both"):
        call(llama, tokenizer, [*choices, *questions])
    with pytest.raises(ValueError, match="distinct ids, 'c1' comes more than once"):
        call(llama, tokenizer, [*choices, choices[1]])
    long = replace(choices[0], prompt="Lyon? " * 200)
    with pytest.raises(ValueError, match=r"'c0': prompt and answer take .* max_length is 160"):
        call(llama, tokenizer, [long])


@pytest.mark.parametrize("kind", ["choices", "questions"])
def test_batch_size_below_one_is_refused(request, llama, tokenizer, kind):
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        score(llama, tokenizer, request.getfixturevalue(kind), named(batch_size=0))


def test_tokenizer_without_padding_token_scores_the_same(llama, tokenizer, choices):
    before = score(llama, tokenizer, choices, named())
    bare = copy.deepcopy(tokenizer)
    bare.pad_token = None
    for one, other in zip(before, score(llama, bare, choices, named()), strict=True):
        assert one.confidence == pytest.approx(other.confidence, abs=1e-12)
