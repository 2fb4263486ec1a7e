"""An ensemble is the mean of its members' probabilities, one member in memory at a time."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from tiny_lora import (
    build_adapted,
    build_base,
    build_open,
    build_questions,
    build_tokenizer,
    save_base,
)
from transformers import LlamaForCausalLM

from cogcalib.baselines import Ensemble
from cogcalib.scoring import ScoreSettings, answer_logits, predict_from_logits, score

SETTINGS = ScoreSettings(model_name="m", run="r")


def member(seed: int) -> Any:
    return lambda: (build_adapted(seed), build_tokenizer())


def assert_alike(ours: Any, theirs: Any, tolerance: float = 1e-5) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert (one.id, one.prediction, one.model, one.run) == (
            other.id,
            other.prediction,
            other.model,
            other.run,
        )
        assert one.nll == pytest.approx(other.nll, rel=tolerance)
        for name, value in other.confidence.items():
            assert one.confidence[name] == pytest.approx(value, rel=tolerance)


def test_it_is_the_mean_of_the_probabilities_of_its_members():
    examples, tokenizer = build_questions("test"), build_tokenizer()
    ours = Ensemble([member(seed) for seed in range(3)]).predict(examples, SETTINGS)
    logits = [answer_logits(build_adapted(s), tokenizer, examples)[0] for s in range(3)]
    mean = softmax(np.array(logits, dtype=np.float64), axis=-1).mean(axis=0)
    assert_alike(ours, predict_from_logits(np.log(mean), examples, tokenizer, SETTINGS))


def test_equal_members_are_that_member_and_order_does_not_matter():
    examples = build_questions("test")
    twice = Ensemble([member(1), member(1)]).predict(examples, SETTINGS)
    assert_alike(twice, score(build_adapted(1), build_tokenizer(), examples, SETTINGS))
    one, other = (
        Ensemble([member(s) for s in order]).predict(examples) for order in ([0, 1, 2], [2, 0, 1])
    )
    assert_alike(one, other)


def test_one_member_is_in_memory_at_a_time():
    alive: list[weakref.ref[Any]] = []

    def load(seed: int) -> Any:
        assert not any(model() is not None for model in alive)
        model = build_adapted(seed)
        alive.append(weakref.ref(model))
        return model, build_tokenizer()

    ensemble = Ensemble([lambda s=s: load(s) for s in range(3)])
    ensemble.predict(build_questions("test"))
    assert len(alive) == 3


def test_blocks_of_questions_change_nothing(monkeypatch):
    examples = build_questions("test")
    ensemble = Ensemble([member(0), member(1)])
    whole = ensemble.predict(examples)
    monkeypatch.setattr(
        "cogcalib.baselines.ensemble.BLOCK_BYTES", 3 * 4 * len(build_tokenizer()) + 1
    )
    in_blocks = ensemble.predict(examples)
    assert [p.id for p in in_blocks] == [e.id for e in examples]
    assert_alike(in_blocks, whole)


def test_adapters_and_models_in_folders(tmp_path):
    examples = build_questions("test")
    base = save_base(tmp_path / "base")
    for seed in range(2):
        build_adapted(seed).save_pretrained(str(tmp_path / f"adapter{seed}"))
    adapters = [tmp_path / f"adapter{seed}" for seed in range(2)]
    ours = Ensemble.of_adapters(base, adapters, dtype="float64")
    assert_alike(ours.predict(examples), Ensemble([member(0), member(1)]).predict(examples))
    adapter = sum(
        weight.numel() for name, weight in build_adapted().named_parameters() if "lora_" in name
    )
    assert (ours.cost.passes, ours.cost.extra_parameters) == (2, adapter)

    with pytest.raises(ValueError, match=r"adapters must be different ones, got .*adapter0 twice"):
        Ensemble.of_adapters(base, [adapters[0], adapters[0]])

    models = Ensemble.of_models([base, save_base(tmp_path / "copy")], dtype="float64")
    assert_alike(models.predict(examples), score(build_base(), build_tokenizer(), examples))
    assert models.cost.extra_parameters == sum(w.numel() for w in build_base().parameters())


def test_members_that_read_other_tokens_are_refused():
    letters = "J I H G F E D C B A"

    def stranger() -> Any:
        return build_base(), build_tokenizer(letters + " Lyon Pune Lima")

    with pytest.raises(ValueError, match="member 1 reads the questions or their letters as other"):
        Ensemble([member(0), stranger]).predict(build_questions("test"))


def test_members_with_another_vocabulary_are_refused():
    def larger() -> Any:
        base = build_base()
        config = base.config.__class__(**{**base.config.to_dict(), "vocab_size": 400})
        torch.manual_seed(0)
        return LlamaForCausalLM(config), build_tokenizer()

    with pytest.raises(ValueError, match="member 1 has a vocabulary of 400 tokens"):
        Ensemble([member(0), larger]).predict(build_questions("test"))


def test_it_refuses_what_it_cannot():
    ensemble = Ensemble([member(0), member(1)])
    assert ensemble.fit(build_questions()) is ensemble
    with pytest.raises(RuntimeError, match="known after predict"):
        _ = ensemble.cost
    assert ensemble.predict([]) == []
    with pytest.raises(ValueError, match="an ensemble is for multiple choice, example 'open'"):
        ensemble.predict([build_open()])
    with pytest.raises(ValueError, match="members must be at least two, got 1"):
        Ensemble([member(0)])
