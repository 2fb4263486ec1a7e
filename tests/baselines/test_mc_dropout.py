"""MC dropout is the mean over seeded passes with nothing but dropout in training mode."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_lora import build_adapted, build_base, build_open, build_questions, build_tokenizer

from cogcalib.baselines import MCDropout
from cogcalib.baselines.mc_dropout import _dropouts, _seed
from cogcalib.modeling import encode_batch
from cogcalib.scoring import ScoreSettings, predict_from_logits, score

ONE = ScoreSettings(batch_size=1, model_name="m", run="r")


def test_it_is_the_mean_of_the_probabilities_over_the_passes():
    model, tokenizer = build_adapted(dropout=0.4), build_tokenizer()
    examples = build_questions("test")[:4]
    found = MCDropout(model, tokenizer, passes=5, seed=3).predict(examples, ONE)
    prompts = [row.prompt_ids for row in encode_batch(examples, tokenizer)]
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    for i in order:
        probabilities = []
        for number in range(5):
            model.eval()
            for name, module in model.named_modules():
                module.training = "lora_dropout" in name
            torch.manual_seed(_seed(3, number, i))
            with torch.no_grad():
                logits = model(torch.tensor([prompts[i]])).logits[0, -1]
            probabilities.append(logits.softmax(-1).numpy())
        mean = np.log(np.mean(probabilities, axis=0))
        expected = predict_from_logits(mean[None], [examples[i]], tokenizer, ONE)[0]
        assert found[i].prediction == expected.prediction
        assert found[i].nll == pytest.approx(expected.nll, rel=1e-9)
        np.testing.assert_allclose(found[i].option_logprobs, expected.option_logprobs, rtol=1e-9)
        for name, value in expected.confidence.items():
            assert found[i].confidence[name] == pytest.approx(value, rel=1e-9)
        assert (found[i].model, found[i].run) == ("m", "r")


def test_a_seed_is_one_result_and_another_seed_another():
    model, tokenizer = build_adapted(dropout=0.4), build_tokenizer()
    examples = build_questions("test")
    first, again, other = (
        MCDropout(model, tokenizer, passes=3, seed=seed).predict(examples) for seed in (0, 0, 1)
    )
    assert first == again
    assert all(a.nll != b.nll for a, b in zip(first, other, strict=True))


def test_many_passes_come_near_each_other():
    model, tokenizer = build_adapted(dropout=0.2), build_tokenizer()
    examples = build_questions("test")

    def spread(passes: int) -> float:
        runs = [
            [p.nll for p in MCDropout(model, tokenizer, passes=passes, seed=s).predict(examples)]
            for s in range(4)
        ]
        return float(np.std(runs, axis=0).mean())

    assert spread(64) < spread(4) / 2


def test_modes_and_random_numbers_are_left_as_they_were():
    model, tokenizer = build_adapted(dropout=0.4), build_tokenizer()
    model.train()
    flags = [module.training for module in model.modules()]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    seen = []
    handle = model.base_model.model.model.register_forward_pre_hook(
        lambda *_: seen.append({type(m).__name__ for m in model.modules() if m.training})
    )
    MCDropout(model, tokenizer, passes=2).predict(build_questions("test")[:2])
    handle.remove()
    assert seen == [{"Dropout"}] * len(seen)
    assert torch.equal(torch.rand(3), expected)
    assert [module.training for module in model.modules()] == flags
    assert len(_dropouts(model)) == 14  # seven adapted matrices in two layers


def test_without_dropout_it_would_be_the_plain_model_and_is_refused():
    with pytest.raises(ValueError, match=r"no dropout module .* lora_dropout > 0"):
        MCDropout(build_adapted(), build_tokenizer())
    with pytest.raises(ValueError, match="no dropout module"):
        MCDropout(build_base(), build_tokenizer())


def test_dropout_of_a_merged_or_disabled_adapter_is_noticed():
    examples, tokenizer = build_questions("test"), build_tokenizer()
    model = build_adapted(dropout=0.4)
    with model.disable_adapter(), pytest.raises(ValueError, match="equal to the bit"):
        MCDropout(model, tokenizer).predict(examples)
    model.merge_adapter()
    with pytest.raises(ValueError, match="equal to the bit"):
        MCDropout(model, tokenizer).predict(examples)


def test_little_dropout_is_nearly_the_plain_model():
    model, tokenizer = build_adapted(dropout=1e-3), build_tokenizer()
    examples = build_questions("test")
    ours = MCDropout(model, tokenizer, passes=20).predict(examples)
    plain = score(model, tokenizer, examples)
    np.testing.assert_allclose([p.nll for p in ours], [p.nll for p in plain], atol=0.1)


def test_it_says_what_it_costs_and_refuses_what_it_cannot():
    mc = MCDropout(build_adapted(dropout=0.1), build_tokenizer(), passes=7)
    assert mc.fit(build_questions()) is mc
    assert (mc.cost.passes, mc.cost.extra_parameters, mc.cost.fit_seconds) == (7, 0, 0.0)
    assert mc.predict([]) == []
    with pytest.raises(ValueError, match="MC dropout is for multiple choice, example 'open'"):
        mc.predict([build_open()])
    with pytest.raises(ValueError, match=r"needs settings.answer letter, got 'text'"):
        mc.predict(build_questions(), ScoreSettings(answer="text"))
    with pytest.raises(ValueError, match="passes must be at least 2, got 1"):
        MCDropout(build_adapted(dropout=0.1), build_tokenizer(), passes=1)
