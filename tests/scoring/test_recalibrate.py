"""Temperatures are fitted per definition, on the calibration split alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cogcalib.modeling import encode_batch, load_model
from cogcalib.records import Prediction
from cogcalib.scoring import ScoreSettings, fit_temperatures, score, score_at
from cogcalib.tasks import load_task


def nll_of_confidence(predictions: list[Prediction], definition: str) -> float:
    """Top-label log loss: what a fitted temperature must not make worse where it was fitted."""
    terms = [
        -np.log(p.confidence[definition] if p.correct else 1 - p.confidence[definition] + 1e-12)
        for p in predictions
    ]
    return float(np.mean(terms))


def test_each_definition_gets_its_own_temperature_and_gains() -> None:
    model, tokenizer = load_model("atlas")
    calibration = load_task("atlas/country").splits["calibration"][:200]
    fitted = fit_temperatures(model, tokenizer, calibration)
    assert set(fitted) == {"vocab", "options", "surface"}
    temperature = {name: scaling.temperature_ for name, scaling in fitted.items()}
    plain = score(model, tokenizer, calibration)
    scaled = score(model, tokenizer, calibration, ScoreSettings(temperature=temperature))
    assert [p.prediction for p in plain] == [p.prediction for p in scaled]
    assert np.mean([p.nll for p in scaled]) < np.mean([p.nll for p in plain])
    best = np.mean([p.nll for p in scaled])
    for factor in (0.9, 1.1):  # the fit is a minimum for the definition it is applied to
        off = {name: value * factor for name, value in temperature.items()}
        moved = score(model, tokenizer, calibration, ScoreSettings(temperature=off))
        assert np.mean([p.nll for p in moved]) > best
    for definition in fitted:
        assert nll_of_confidence(scaled, definition) < nll_of_confidence(plain, definition) + 0.02


def test_no_other_temperature_suits_a_definition_better() -> None:
    """Each is at the minimum, over a grid, of what its definition is judged by."""
    model, tokenizer = load_model("atlas")
    calibration = load_task("atlas/country-open").splits["calibration"][:60]
    fitted = fit_temperatures(model, tokenizer, calibration)
    assert list(fitted) == ["mean", "joint", "nll"]
    best = {name: scaling.temperature_ for name, scaling in fitted.items()}
    assert len(set(best.values())) == 3

    def losses(factor: float) -> dict[str, float]:
        at = ScoreSettings(temperature={name: value * factor for name, value in best.items()})
        rows = score(model, tokenizer, calibration, at)
        found = {name: nll_of_confidence(rows, name) for name in ("mean", "joint")}
        return found | {"nll": sum(row.nll * n for row, n in zip(rows, lengths, strict=True))}

    # `nll` is fitted token by token, so that each answer counts by its length.
    lengths = [len(row.answer_ids) for row in encode_batch(calibration, tokenizer)]
    least = losses(1.0)
    for factor in (0.5, 0.8, 0.97, 1.03, 1.25, 2.0):
        moved = losses(factor)
        assert all(moved[name] > least[name] for name in least)


def test_a_temperature_of_the_vocabulary_is_fitted_to_the_confidence_it_gives() -> None:
    model, tokenizer = load_model("atlas")
    calibration = load_task("atlas/country").splits["calibration"][:100]
    best = fit_temperatures(model, tokenizer, calibration)["vocab"].temperature_

    def loss(temperature: float) -> float:
        at = ScoreSettings(temperature={"vocab": temperature})
        return nll_of_confidence(score(model, tokenizer, calibration, at), "vocab")

    assert all(loss(best * factor) > loss(best) for factor in (0.7, 0.97, 1.03, 1.4))


def test_other_splits_are_refused() -> None:
    model, tokenizer = load_model("atlas")
    calibration = load_task("atlas/country").splits["calibration"][:5]
    leaked = [*calibration, replace(calibration[0], id="x", split="test")]
    with pytest.raises(ValueError, match="calibration split only; 1 of 6"):
        fit_temperatures(model, tokenizer, leaked)


def test_one_pass_for_several_temperatures_says_what_a_pass_for_each_says() -> None:
    model, tokenizer = load_model("atlas")
    questions = load_task("atlas/country").splits["test"][:70]
    asked = [  # not as many options each
        replace(each, options=(each.options or ())[:2]) if each.answer in "AB" else each
        for each in questions
    ]
    several = [
        ScoreSettings(model_name="plain", run="r", batch_size=16),
        ScoreSettings(
            model_name="hot", run="r", batch_size=16,
            temperature={"options": 1.7, "vocab": 0.8, "surface": 2.0},
        ),
    ]  # fmt: skip
    found = score_at(model, tokenizer, asked, several)
    assert found == [score(model, tokenizer, asked, each) for each in several]
    assert found[0][0].confidence != found[1][0].confidence


def test_one_pass_asks_in_one_way() -> None:
    model, tokenizer = load_model("atlas")
    asked = load_task("atlas/country").splits["test"][:2]
    with pytest.raises(ValueError, match=r"may differ in .*got .*batch_size=1.*batch_size=2"):
        score_at(model, tokenizer, asked, [ScoreSettings(batch_size=n) for n in (1, 2)])


@pytest.mark.parametrize("task", ["atlas/country-open", None])
def test_one_pass_needs_questions_answered_by_letter(task: str | None) -> None:
    model, tokenizer = load_model("atlas")
    asked = load_task(task).splits["test"][:2] if task else []
    with pytest.raises(ValueError, match="needs questions answered by letter"):
        score_at(model, tokenizer, asked, [ScoreSettings()])
