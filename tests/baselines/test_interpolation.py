"""Interpolation asks one model at scales between its base and itself, and keeps the best."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_lora import build_adapted, build_base, build_open, build_questions, build_tokenizer

from cogcalib.baselines import Interpolation
from cogcalib.baselines.interpolation import SCALES
from cogcalib.scoring import ScoreSettings, fit_temperatures, score

ONE = ScoreSettings(batch_size=1, model_name="m", run="r")


def fitted() -> Interpolation:
    made = Interpolation(build_adapted(), build_tokenizer())
    return made.fit(build_questions("calibration"), ONE)


def scaled(scale: float):
    """The model with weights W + s B A, by hand."""
    model = build_adapted()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data *= scale
    return model


def test_each_scale_is_the_model_with_as_much_of_the_adapter() -> None:
    found, tokenizer = fitted(), build_tokenizer()
    asked = build_questions("calibration")
    for scale in SCALES:
        made = score(scaled(scale), tokenizer, asked, ONE)
        expected = sum(row.nll for row in made) / len(made)
        assert found.nll_[scale] == pytest.approx(expected, rel=1e-9)
    base = score(build_base(), tokenizer, asked, ONE)
    assert found.nll_[0.0] == pytest.approx(sum(row.nll for row in base) / len(base), rel=1e-9)
    assert found.nll_[found.scale_] == min(found.nll_.values())


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_everything_is_asked_at_the_scale_chosen(scale: float) -> None:
    found, tokenizer = fitted(), build_tokenizer()
    found.scale_ = scale
    tested, calibration = build_questions("test"), build_questions("calibration")
    by_hand = scaled(scale)
    for ours, theirs in zip(
        found.predict(tested, ONE), score(by_hand, tokenizer, tested, ONE), strict=True
    ):
        assert (ours.id, ours.prediction, ours.model) == (theirs.id, theirs.prediction, "m")
        assert ours.nll == pytest.approx(theirs.nll, rel=1e-9)
    ours, theirs = (
        found.fit_temperatures(calibration, ONE),
        fit_temperatures(by_hand, tokenizer, calibration, ONE),
    )
    for name, each in theirs.items():
        assert ours[name].temperature_ == pytest.approx(each.temperature_, rel=1e-6)
    after = score(found.model, tokenizer, tested, ONE)
    assert after == score(build_adapted(), tokenizer, tested, ONE)  # the model is left as it was


def test_of_equal_scales_the_model_as_trained_is_taken() -> None:
    model = build_adapted()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(weight)
    found = Interpolation(model, build_tokenizer()).fit(build_questions("calibration"), ONE)
    assert len(set(found.nll_.values())) == 1
    assert found.scale_ == 1.0
    assert found.chosen == {"scale": 1.0, "nll": dict.fromkeys(["0", "0.25", "0.5", "0.75", "1"],
                                                               found.nll_[1.0])}  # fmt: skip
    assert (found.cost.passes, found.cost.extra_parameters) == (1, 1)
    assert found.cost.fit_seconds > 0


def test_labels_of_the_test_cannot_enter_and_open_questions_are_refused() -> None:
    made = Interpolation(build_adapted(), build_tokenizer())
    with pytest.raises(ValueError, match="calibration split only"):
        made.fit(build_questions("test"))
    with pytest.raises(ValueError, match="calibration is empty"):
        made.fit([])
    for unfitted in (lambda: made.predict(build_questions("test")), lambda: made.chosen):
        with pytest.raises(RuntimeError, match="Interpolation is not fitted"):
            unfitted()
    found = fitted()
    with pytest.raises(ValueError, match="'open' is open-ended"):
        found.predict([build_open()])
    with pytest.raises(ValueError, match=r"needs settings\.answer letter, got 'label'"):
        found.predict(build_questions("test"), ScoreSettings(answer="label"))


def test_a_model_that_would_not_be_its_base_at_scale_0_is_refused() -> None:
    tokenizer = build_tokenizer()
    with pytest.raises(ValueError, match="has no LoRA adapter, whose scale"):
        Interpolation(build_base(), tokenizer)
    merged = build_adapted()
    merged.merge_adapter()
    with pytest.raises(ValueError, match="merged into the model"):
        Interpolation(merged, tokenizer)
    for more, message in (
        ({"use_dora": True}, "must be plain LoRA, got DoRA at"),
        ({"modules_to_save": ["lm_head"]}, "must be LoRA and nothing else, got .*lm_head"),
    ):
        adapted = get_peft_model(build_base(), LoraConfig(target_modules=["q_proj"], **more))
        with pytest.raises(ValueError, match=message):
            Interpolation(adapted, tokenizer)
