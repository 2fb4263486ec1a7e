"""The cheap signals against their definitions, and how well they tell."""

from __future__ import annotations

import math

import pytest
import torch
from probe_world import build_choices, build_model, build_questions, build_tokenizer

from cogcalib.inference.logits import inference
from cogcalib.knowledge import Signals, detect, probe, read_signals
from cogcalib.modeling import encode


@pytest.mark.parametrize("examples", [build_questions(), build_choices()], ids=["open", "choice"])
def test_they_are_what_they_say(examples):
    model, tokenizer = build_model(), build_tokenizer()
    found = read_signals(model, tokenizer, examples, batch_size=5)
    for example, row in zip(examples, found, strict=True):
        ids = encode(example, tokenizer)
        answer = torch.tensor(ids.answer_ids)
        with inference(model):
            logits = model(input_ids=torch.tensor([ids.input_ids])).logits[0]
        p = logits[-len(answer) - 1 : -1].softmax(-1)
        gold = p[torch.arange(len(answer)), answer]
        others = p.scatter(1, answer[:, None], 0.0).amax(-1)
        assert row.tokens == len(answer)
        assert row.nll == pytest.approx(-gold.log().mean().item())
        assert row.margin == pytest.approx((gold.log() - others.log()).mean().item())
        assert row.entropy == pytest.approx(-(p * p.log()).sum(-1).mean().item())
        assert row.p_gold == pytest.approx(gold.prod().item())


def test_nll_is_that_of_the_runs_probe():
    model, tokenizer, examples = build_model(), build_tokenizer(), build_questions()
    found = [row.nll for row in read_signals(model, tokenizer, examples)]
    assert found == pytest.approx([row.nll for row in probe(model, tokenizer, examples)])


def test_a_detector_that_ranks_perfectly():
    signals = [Signals(float(k), -float(k), 0.5, math.exp(-k), 2) for k in range(20)]
    found = detect(signals, [k < 8 for k in range(20)], resamples=50)
    for name in ("nll", "margin", "p_gold"):
        assert (found[name].auroc, found[name].low, found[name].high) == (1.0, 1.0, 1.0)
    assert found["entropy"].auroc == 0.5


def test_without_two_kinds_there_is_no_area():
    found = detect([Signals(1.0, 0.0, 0.0, 0.3, 2)] * 3, [True] * 3, resamples=10)
    assert math.isnan(found["nll"].auroc)


def test_no_examples_no_signals():
    assert read_signals(build_model(), build_tokenizer(), []) == []


def test_a_signal_that_was_not_measured_is_left_out():
    signals = [Signals(float(k), -float(k), None, math.exp(-k), 2) for k in range(8)]
    assert set(detect(signals, [k < 3 for k in range(8)], resamples=10)) == {
        "nll", "margin", "p_gold",
    }  # fmt: skip
