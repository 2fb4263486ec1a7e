"""Temperatures are fitted per definition, on the calibration split alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cogcalib.modeling import load_model
from cogcalib.records import Prediction
from cogcalib.scoring import ScoreSettings, fit_temperatures, score
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


def test_open_ended_definitions_share_one() -> None:
    model, tokenizer = load_model("atlas")
    calibration = load_task("atlas/country-open").splits["calibration"][:60]
    fitted = fit_temperatures(model, tokenizer, calibration)
    assert set(fitted) == {"mean", "joint"}
    assert fitted["mean"].temperature_ == fitted["joint"].temperature_


def test_other_splits_are_refused() -> None:
    model, tokenizer = load_model("atlas")
    calibration = load_task("atlas/country").splits["calibration"][:5]
    leaked = [*calibration, replace(calibration[0], id="x", split="test")]
    with pytest.raises(ValueError, match="calibration split only; 1 of 6"):
        fit_temperatures(model, tokenizer, leaked)
