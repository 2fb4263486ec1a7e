"""Averages with a temperature: averaged first, tempered afterwards, each definition by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp, softmax
from tiny_lora import build_adapted, build_open, build_questions, build_tokenizer

from cogcalib.baselines import Ensemble, MCDropout
from cogcalib.modeling import encode_batch
from cogcalib.modeling.encoding import surface_ids
from cogcalib.posthoc import TemperatureScaling
from cogcalib.records import Example, Prediction
from cogcalib.scoring import ScoreSettings, answer_logits, fit_temperatures, score

Support = Sequence[Sequence[Sequence[int]]]


def member(seed: int) -> Any:
    return lambda: (build_adapted(seed), build_tokenizer())


def answered(predictions: Sequence[Prediction]) -> list[Example]:
    """Calibration questions whose answer is what the model says, but for every third."""
    questions = build_questions("calibration")
    examples = []
    for at, (question, said) in enumerate(zip(questions, predictions, strict=True)):
        letters = [option.letter for option in question.options or ()]
        other = letters[(letters.index(said.prediction) + 1) % len(letters)]
        examples.append(replace(question, answer=other if at % 3 == 0 else said.prediction))
    return examples


def values(fitted: Mapping[str, TemperatureScaling]) -> dict[str, float]:
    return {name: scaling.temperature_ for name, scaling in fitted.items()}


def scores(log_p: NDArray[np.float64], support: Support) -> list[NDArray[np.float64]]:
    """Log of each option's mass, a row a question."""
    return [
        np.array([logsumexp(row[list(ids)]) for ids in options])
        for row, options in zip(log_p, support, strict=True)
    ]


def lowest(loss: Callable[[float], float]) -> float:
    """The temperature of the least loss, found blindly."""
    logs = np.linspace(np.log(0.05), np.log(20), 200)
    start = min(logs, key=lambda each: loss(np.exp(each)))
    found = minimize_scalar(
        lambda each: loss(np.exp(each)),
        bounds=(start - 0.05, start + 0.05),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return float(np.exp(found.x))


def by_nll(rows: Sequence[NDArray[np.float64]], gold: Sequence[int]) -> float:
    """What minimises the mean of -log softmax(row / T)[gold]."""

    def nll(temperature: float) -> float:
        pairs = zip(rows, gold, strict=True)
        return -float(np.mean([log_softmax(row / temperature)[at] for row, at in pairs]))

    return lowest(nll)


def by_log_loss(rows: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """What minimises the log loss of max_v softmax(row / T)_v, of whether the answer is right."""

    def loss(temperature: float) -> float:
        confidence = softmax(rows / temperature, axis=1).max(axis=1)
        return -float(np.log(np.where(right, confidence, 1 - confidence)).mean())

    return lowest(loss)


def test_an_ensemble_is_averaged_and_then_tempered() -> None:
    ensemble, tokenizer = Ensemble([member(seed) for seed in range(2)]), build_tokenizer()
    examples = answered(ensemble.predict(build_questions("calibration")))
    fitted = ensemble.fit_temperatures(examples)
    logits = [answer_logits(build_adapted(s), tokenizer, examples)[0] for s in range(2)]
    mean = np.log(softmax(np.array(logits, dtype=np.float64), axis=-1).mean(axis=0))
    forms = surface_ids(examples, tokenizer)
    letters = [[option.letter for option in example.options or ()] for example in examples]
    gold = [row.index(example.answer) for row, example in zip(letters, examples, strict=True)]
    options = scores(mean, [[ids[:1] for ids in row] for row in forms])
    right = np.array([row.argmax() == at for row, at in zip(options, gold, strict=True)])
    expected = {
        "vocab": by_log_loss(mean, right),
        "options": by_nll(options, gold),
        "surface": by_nll(scores(mean, forms), gold),
    }
    assert values(fitted) == pytest.approx(expected, rel=1e-4)
    assert len(set(values(fitted).values())) > 1
    assert not any(scaling.at_bound_ for scaling in fitted.values())

    found = ensemble.predict(examples, ScoreSettings(temperature=values(fitted)))
    for row, log_p, scored in zip(found, mean, options, strict=True):
        vocab = softmax(log_p / expected["vocab"]).max()
        among = softmax(scored / expected["options"])
        assert row.confidence["vocab"] == pytest.approx(vocab, rel=1e-4)
        assert row.confidence["options"] == pytest.approx(among.max(), rel=1e-4)
        assert row.prediction == "ABCD"[int(among.argmax())]
        assert row.nll == pytest.approx(-np.log(among["ABCD".index(row.answer)]), rel=1e-4)


def test_an_ensemble_of_one_model_has_the_temperatures_of_that_model() -> None:
    model, tokenizer = build_adapted(1), build_tokenizer()
    examples = answered(score(model, tokenizer, build_questions("calibration")))
    alone = values(fit_temperatures(model, tokenizer, examples))
    twice = Ensemble([member(1), member(1)])
    assert values(twice.fit_temperatures(examples)) == pytest.approx(alone, rel=1e-5)


def test_blocks_change_no_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble = Ensemble([member(0), member(1)])
    examples = answered(ensemble.predict(build_questions("calibration")))
    whole = values(ensemble.fit_temperatures(examples))
    size = 3 * 4 * len(build_tokenizer()) + 1
    monkeypatch.setattr("cogcalib.baselines.ensemble.BLOCK_BYTES", size)
    assert values(ensemble.fit_temperatures(examples)) == pytest.approx(whole, rel=1e-6)


def test_dropout_of_nothing_has_the_temperatures_of_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, tokenizer = build_adapted(dropout=0.5), build_tokenizer()
    examples = answered(score(model, tokenizer, build_questions("calibration")))
    mc = MCDropout(model, tokenizer, passes=3)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 1e-300  # it drops nothing
    monkeypatch.setattr(torch, "equal", lambda *_: False)  # passes that are equal are refused
    fitted = mc.fit_temperatures(examples)
    plain = fit_temperatures(model, tokenizer, examples)
    assert values(fitted) == pytest.approx(values(plain), rel=1e-5)
    at = ScoreSettings(temperature=values(fitted))
    for ours, alone in zip(
        mc.predict(examples, at), score(model, tokenizer, examples, at), strict=True
    ):
        assert ours.confidence == pytest.approx(alone.confidence, rel=1e-6)
        assert (ours.prediction, ours.nll) == (alone.prediction, pytest.approx(alone.nll, rel=1e-6))


def test_dropout_is_averaged_and_then_tempered() -> None:
    model, tokenizer = build_adapted(dropout=0.4), build_tokenizer()
    mc = MCDropout(model, tokenizer, passes=4, seed=2)
    examples = answered(mc.predict(build_questions("calibration")))
    fitted = mc.fit_temperatures(examples)
    logprobs = [np.array(row.option_logprobs) for row in mc.predict(examples)]
    gold = ["ABCD".index(example.answer) for example in examples]
    assert fitted["options"].temperature_ == pytest.approx(by_nll(logprobs, gold), rel=1e-6)
    tokens = [row.option_ids for row in encode_batch(examples, tokenizer)]
    assert {len(row or ()) for row in tokens} == {2, 3, 4}


@pytest.mark.parametrize("what", ["ensemble", "dropout"])
def test_only_the_calibration_split_is_fitted_on(what: str) -> None:
    made = {
        "ensemble": lambda: Ensemble([member(0), member(1)]),
        "dropout": lambda: MCDropout(build_adapted(dropout=0.1), build_tokenizer()),
    }[what]()
    with pytest.raises(ValueError, match="calibration split only; 8 of 8"):
        made.fit_temperatures(build_questions("test"))
    with pytest.raises(ValueError, match="calibration is empty"):
        made.fit_temperatures([])
    with pytest.raises(ValueError, match="is for multiple choice, example 'open'"):
        made.fit_temperatures([replace(build_open(), split="calibration")])
