"""Options of several tokens: judged by their log-likelihood, as a plain forward pass has it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cogcalib.modeling import render_prompt
from cogcalib.records import Example, Option
from cogcalib.scoring import ScoreSettings, score

TEXT = ScoreSettings(answer="text")
LABELS = ("A", "BB", "ABBA", "J")


@torch.no_grad()
def plain_log_likelihood(model, tokenizer, prompt: str, continuation: str) -> tuple[float, int]:
    """Log-likelihood of a continuation, and its number of tokens; nothing batched or cached."""
    start = len(tokenizer(prompt)["input_ids"])
    ids = tokenizer(prompt + continuation)["input_ids"]
    log_p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    total = sum(float(log_p[at - 1, ids[at]]) for at in range(start, len(ids)))
    return total, len(ids) - start


def shares(scores: list[float]) -> np.ndarray:
    weights = np.exp(np.array(scores) - max(scores))
    return weights / weights.sum()


@pytest.fixture
def labelled(choices) -> list[Example]:
    """Questions whose labels take one to four tokens."""
    rows = []
    for example in choices:
        names = dict(zip("ABCD", LABELS, strict=True))
        options = tuple(Option(names[option.letter], option.text) for option in example.options)
        rows.append(replace(example, options=options, answer=names[example.answer]))
    return rows


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("kind", ["text", "label"])
def test_predictions_equal_a_plain_forward(model, tokenizer, labelled, kind, normalized):
    settings = ScoreSettings(
        answer=kind, length_normalized=normalized, temperature={"options": 1.3}
    )
    lengths = set()
    for example, row in zip(labelled, score(model, tokenizer, labelled, settings), strict=True):
        asked = replace(example, options=None) if kind == "text" else example
        said = [option.text if kind == "text" else option.letter for option in example.options]
        found = [
            plain_log_likelihood(model, tokenizer, render_prompt(asked), f" {text}")
            for text in said
        ]
        sums = [total for total, _ in found]
        judged = [total / (n if normalized else 1) for total, n in found]
        lengths |= {n for _, n in found}
        letters = [option.letter for option in example.options]
        assert row.option_logprobs == pytest.approx(sums, abs=1e-9)
        assert row.prediction == letters[int(np.argmax(judged))]
        share = shares([value / 1.3 for value in judged])
        assert row.confidence == {"options": pytest.approx(share.max(), abs=1e-9)}
        assert row.nll == pytest.approx(-np.log(share[letters.index(row.answer)]), abs=1e-9)
    assert len(lengths) > 1


def test_single_token_labels_are_what_the_letter_gives(model, tokenizer, choices):
    letters = score(model, tokenizer, choices)
    for one, other in zip(
        letters, score(model, tokenizer, choices, ScoreSettings(answer="label")), strict=True
    ):
        assert one.prediction == other.prediction
        assert one.option_logprobs == pytest.approx(other.option_logprobs, abs=1e-10)
        assert one.confidence["options"] == pytest.approx(other.confidence["options"], abs=1e-10)
        assert one.nll == pytest.approx(other.nll, abs=1e-10)


def test_length_normalisation_can_change_the_answer(llama, tokenizer, choices):
    by_sum = score(llama, tokenizer, choices, TEXT)
    by_mean = score(llama, tokenizer, choices, replace(TEXT, length_normalized=True))
    assert [row.option_logprobs for row in by_sum] == [row.option_logprobs for row in by_mean]
    assert [row.prediction for row in by_sum] != [row.prediction for row in by_mean]


def test_bad_input_is_refused(llama, tokenizer, labelled, choices):
    with pytest.raises(ValueError, match="'BB' must be one single token"):
        score(llama, tokenizer, labelled)
    with pytest.raises(ValueError, match="answer must be one of letter, label, text, got 'index'"):
        ScoreSettings(answer="index")
    with pytest.raises(ValueError, match="length_normalized needs answer to be label or text"):
        ScoreSettings(length_normalized=True)
    with pytest.raises(ValueError, match=r"among options, got \['vocab'\]"):
        score(llama, tokenizer, choices, replace(TEXT, temperature={"vocab": 2.0}))
    long = replace(choices[0], prompt="Lyon? " * 200)
    with pytest.raises(ValueError, match=r"'c0': prompt and label take .* 160 positions"):
        score(llama, tokenizer, [long], ScoreSettings(answer="label"))
    with pytest.raises(ValueError, match=r"'c0': prompt and answer take .* max_length is 160"):
        score(llama, tokenizer, [long], TEXT)
