"""Calibrating predictions: what changes, what stays, what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from cogcalib.posthoc import PlattScaling, TemperatureScaling, VectorScaling
from cogcalib.records import Example, Option, Prediction
from cogcalib.scoring import (
    apply_confidence_maps,
    apply_option_scaling,
    fit_confidence_maps,
    fit_option_scaling,
    primary_definition,
    summarize,
)


def build(split: str, n: int = 200, seed: int = 0) -> tuple[list[Prediction], list[Example]]:
    """Questions with three or four options lettered W to Z, answered with too much confidence."""
    rng = np.random.default_rng(seed)
    predictions, examples = [], []
    for i in range(n):
        letters = "WXYZ"[: 3 + i % 2]
        scores = rng.normal(scale=1.0, size=len(letters))
        tilt = np.array([1.0, 0.0, -0.5, 0.0])[: len(letters)]
        answer = letters[rng.choice(len(letters), p=softmax(scores + tilt))]
        logprobs = log_softmax(3 * scores) - 0.25  # some mass goes to other tokens
        best = int(np.argmax(scores))
        options = tuple(Option(letter, f"text {letter}") for letter in letters)
        examples.append(Example(f"{split}{i}", "t", split, "Which?", options, answer))
        predictions.append(
            Prediction(
                id=f"{split}{i}",
                task="t",
                split=split,
                answer=answer,
                prediction=letters[best],
                correct=letters[best] == answer,
                nll=float(-log_softmax(3 * scores)[letters.index(answer)]),
                confidence={
                    "vocab": float(np.exp(logprobs.max())),
                    "options": float(softmax(3 * scores).max()),
                },
                option_logprobs=tuple(logprobs.tolist()),
                model="m",
                run="r",
            )
        )
    return predictions, examples


def ece(predictions: list[Prediction], definition: str) -> float:
    row = summarize(predictions, method="x", seed=0, resamples=1)
    return float(row["ece"][definition]["value"])


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_maps_change_confidences_and_nothing_else(method):
    calibration, _ = build("calibration", 600)
    test, _ = build("test", 600, seed=1)
    fitted = fit_confidence_maps(method, calibration)
    mapped = apply_confidence_maps(fitted, test)
    for old, new in zip(test, mapped, strict=True):
        assert replace(new, confidence=old.confidence) == old
        for name in ("vocab", "options"):
            assert new.confidence[name] == fitted[name].transform(old.confidence[name])
    for name in ("vocab", "options"):
        assert ece(mapped, name) < 0.7 * ece(test, name)


def test_each_definition_has_its_own_map():
    calibration, _ = build("calibration")
    fitted = fit_confidence_maps("platt", calibration)
    alone = PlattScaling().fit(
        [row.confidence["vocab"] for row in calibration], [row.correct for row in calibration]
    )
    assert isinstance(fitted["vocab"], PlattScaling)
    assert fitted["vocab"].slope_ == alone.slope_


def test_vector_scaling_answers_anew():
    calibration, questions = build("calibration", 600)
    test, examples = build("test", 600, seed=1)
    scaling = fit_option_scaling(VectorScaling(), calibration, questions)
    assert scaling.bias_[0] > scaling.bias_[2]
    scaled = apply_option_scaling(scaling, test, examples)
    for old, new, example in zip(test, scaled, examples, strict=True):
        n = len(example.options or ())
        assert new.option_logprobs is not None
        shares = log_softmax(np.array(old.option_logprobs))
        expected = log_softmax(shares * scaling.weight_[:n] + scaling.bias_[:n])
        np.testing.assert_allclose(new.option_logprobs, expected, atol=1e-12)
        assert new.prediction == "WXYZ"[int(expected.argmax())]
        assert new.correct == (new.prediction == example.answer)
        assert new.nll == pytest.approx(-expected["WXYZ".index(example.answer)])
        assert new.confidence == {"options": pytest.approx(np.exp(expected.max()))}
        assert (new.id, new.model, new.run, new.split) == (old.id, old.model, old.run, old.split)
    assert primary_definition(scaled) == "options"
    assert np.mean([row.nll for row in scaled]) < np.mean([row.nll for row in test])
    assert np.mean([row.correct for row in scaled]) > np.mean([row.correct for row in test])
    assert ece(scaled, "options") < ece(test, "options") / 2


def test_vector_scaling_does_not_mind_mass_beyond_the_options():
    calibration, questions = build("calibration")
    shifted = [
        replace(row, option_logprobs=tuple(v - 0.01 * i for v in row.option_logprobs or ()))
        for i, row in enumerate(calibration)
    ]
    plain, other = (
        fit_option_scaling(VectorScaling(), rows, questions) for rows in (calibration, shifted)
    )
    np.testing.assert_allclose(plain.weight_, other.weight_, rtol=1e-6)


def test_a_temperature_of_the_options_alone():
    calibration, questions = build("calibration", 600)
    test, examples = build("test", 600, seed=1)
    scaling = fit_option_scaling(TemperatureScaling(), calibration, questions)
    assert scaling.temperature_ > 2  # the shares were made three times too sharp
    scaled = apply_option_scaling(scaling, test, examples)
    for old, new in zip(test, scaled, strict=True):
        assert old.option_logprobs is not None
        expected = log_softmax(np.array(old.option_logprobs) / scaling.temperature_)
        np.testing.assert_allclose(new.option_logprobs, expected, atol=1e-12)
        assert (new.prediction, new.correct) == (old.prediction, old.correct)
        assert new.nll == pytest.approx(-expected["WXYZ".index(old.answer)])
        assert new.confidence == {"options": pytest.approx(np.exp(expected.max()))}
    # Fitted on questions of three and four options, it needs no weight for a fifth.
    short = [row for row, example in zip(test, examples, strict=True) if len(example.options) == 3]
    asked = [example for example in examples if len(example.options) == 3]
    assert len(apply_option_scaling(scaling, short, asked)) == len(short)


def test_nothing_in_nothing_out():
    calibration, questions = build("calibration")
    assert apply_confidence_maps(fit_confidence_maps("isotonic", calibration), []) == []
    assert (
        apply_option_scaling(fit_option_scaling(VectorScaling(), calibration, questions), [], [])
        == []
    )


def test_other_splits_are_refused():
    calibration, questions = build("calibration", 4)
    leaked = [*calibration[:3], replace(calibration[3], split="test")]
    for fit in (
        lambda: fit_confidence_maps("platt", leaked),
        lambda: fit_option_scaling(VectorScaling(), leaked, questions),
    ):
        with pytest.raises(ValueError, match=r"calibration split only; 1 of 4 .*'calibration3'"):
            fit()


def test_what_does_not_fit_is_named():
    calibration, questions = build("calibration", 6)
    first = calibration[0]
    with pytest.raises(ValueError, match="method must be one of platt, isotonic, got 'vector'"):
        fit_confidence_maps("vector", calibration)
    with pytest.raises(ValueError, match="calibration is empty"):
        fit_confidence_maps("platt", [])
    with pytest.raises(ValueError, match="must come from one model, got m, other"):
        fit_confidence_maps("platt", [*calibration, replace(first, model="other")])
    odd = replace(first, confidence={"options": 0.5})
    with pytest.raises(ValueError, match="must share its confidence definitions"):
        fit_confidence_maps("platt", [*calibration, odd])
    with pytest.raises(ValueError, match=r"must have the confidence definitions fitted on"):
        apply_confidence_maps(fit_confidence_maps("platt", calibration), [odd])
    with pytest.raises(ValueError, match="examples must be those of the 6 predictions, got 5"):
        fit_option_scaling(VectorScaling(), calibration, questions[:5])
    with pytest.raises(ValueError, match="'calibration5' beside 'calibration0'"):
        fit_option_scaling(VectorScaling(), calibration, questions[::-1])
    with pytest.raises(ValueError, match="a scaling of options is for multiple choice"):
        fit_option_scaling(VectorScaling(), [replace(first, option_logprobs=None)], questions[:1])
    three = VectorScaling().fit(np.eye(3), [0, 1, 2])
    with pytest.raises(ValueError, match="'calibration1' must have at most the 3 options fitted"):
        apply_option_scaling(three, calibration, questions)
