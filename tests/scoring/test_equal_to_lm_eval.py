"""The reference: what a plain forward pass and lm-evaluation-harness say of real questions."""

from __future__ import annotations

import logging
import warnings

import pytest
import torch
from real_questions import SPLITS, questions
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from cogcalib.atlas.tokenizer import train_tokenizer
from cogcalib.modeling import render_prompt
from cogcalib.records import Example
from cogcalib.scoring import ScoreSettings, score

SETTINGS = [ScoreSettings(), ScoreSettings(answer="text")]


@pytest.fixture(scope="module")
def tokenizer(shared_data) -> PreTrainedTokenizerBase:
    texts = [render_prompt(e) for e in questions("openbookqa", shared_data)]
    return train_tokenizer([*texts, *["Answer: A B C D E"] * 50], 1000)


@pytest.fixture(scope="module")
def llama(tokenizer) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.1,
    )
    return LlamaForCausalLM(config).eval()


def asked(example: Example, settings: ScoreSettings) -> list[tuple[str, str]]:
    """Each option as prompt and continuation, as text."""
    if settings.answer == "letter":
        return [(render_prompt(example), f" {option.letter}") for option in example.options]
    bare = f"Question: {example.prompt.strip()}\nAnswer:"
    if example.context:
        bare = f"Passage: {example.context.strip()}\n{bare}"
    return [(bare, f" {option.text}") for option in example.options]


@torch.no_grad()
def plain_log_likelihood(model, tokenizer, prompt: str, continuation: str) -> float:
    """One option alone through the whole model, its logits at every position."""
    ids = tokenizer(prompt + continuation)["input_ids"]
    start = len(tokenizer(prompt)["input_ids"])
    log_p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(float(log_p[at - 1, ids[at]]) for at in range(start, len(ids)))


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.answer)
@pytest.mark.parametrize("task", SPLITS)
def test_log_likelihoods_equal_a_plain_pass_per_option(
    llama, tokenizer, shared_data, task, settings
):
    """In float64, where rounding cannot hide a wrong token."""
    model = LlamaForCausalLM(llama.config).double().eval()
    model.load_state_dict({name: value.double() for name, value in llama.state_dict().items()})
    examples = questions(task, shared_data, 12)
    for example, row in zip(examples, score(model, tokenizer, examples, settings), strict=True):
        expected = [
            plain_log_likelihood(model, tokenizer, *pair) for pair in asked(example, settings)
        ]
        assert row.option_logprobs == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.answer)
@pytest.mark.parametrize("task", SPLITS)
def test_lm_evaluation_harness_agrees(llama, tokenizer, shared_data, task, settings):
    reason = "needs lm-evaluation-harness (pip install lm-eval==0.4.13)"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        instance = pytest.importorskip("lm_eval.api.instance", reason=reason)
        models = pytest.importorskip("lm_eval.models.huggingface", reason=reason)
    examples = questions(task, shared_data)
    pairs = [pair for example in examples for pair in asked(example, settings)]
    requests = [instance.Instance("loglikelihood", {}, pair, k) for k, pair in enumerate(pairs)]
    logging.disable(logging.WARNING)  # it warns of being given a model object
    try:
        harness = models.HFLM(pretrained=llama, tokenizer=tokenizer, batch_size=8)
        found = [value for value, _ in harness.loglikelihood(requests, disable_tqdm=True)]
    finally:
        logging.disable(logging.NOTSET)
    theirs, right, rows = iter(found), 0, score(llama, tokenizer, examples, settings)
    for example, row in zip(examples, rows, strict=True):
        values = [next(theirs) for _ in example.options]
        assert row.option_logprobs == pytest.approx(values, abs=1e-4)
        best = max(range(len(values)), key=values.__getitem__)
        right += example.options[best].letter == example.answer
    assert sum(row.correct for row in rows) == right
    assert len(examples) == {"openbookqa": 500, "arc_challenge": 297, "boolq": 3270}[task]
    if task == "arc_challenge":
        assert {len(example.options) for example in examples} == {3, 4, 5}
