"""From raw answers to calibrated ones: maps against their posthoc classes, and the rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
from abstention_rules import rule
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from cogcalib.deployment import AnswerFormat, Calibration, FittedMap, ModelIdentity
from cogcalib.deployment.answer import TokenLogprob
from cogcalib.deployment.calibrated import CALIBRATORS, calibrate, restore
from cogcalib.deployment.inputs import Question, RefusedInput
from cogcalib.deployment.raw_answers import RawAnswer
from cogcalib.records import InputError

MODEL = ModelIdentity("m", None, None, "t")
LABELS = (" A", " B", " C", " D")
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(200, 4)) * 2 - 3
GOLD = RNG.integers(4, size=200)


def of_options(logprobs) -> RawAnswer:
    question = Question((1,), LABELS[: len(logprobs)], tuple((i,) for i in range(len(logprobs))))
    best = int(np.argmax(logprobs))
    share = float(softmax(logprobs)[best])
    return RawAnswer(question, tuple(logprobs), best, LABELS[best], {"options": share})


def of_text(mean: float, joint: float) -> RawAnswer:
    tokens = (TokenLogprob("Peru", math.log(joint)),)
    return RawAnswer(Question((1,)), (), None, "Peru", {"mean": mean, "joint": joint}, tokens)


def calibration(fitted: FittedMap | None = None, *rules, confidence="options") -> Calibration:
    kind = "options" if confidence == "options" else "open-ended"
    return Calibration(MODEL, AnswerFormat(kind, confidence), fitted, rules)


def fit(method: str) -> FittedMap:
    made = CALIBRATORS[method]()
    if method in ("temperature", "vector"):
        made.fit(LOGITS, GOLD)
    else:
        share = softmax(LOGITS, axis=1)
        made.fit(share.max(1), share.argmax(1) == GOLD)
    return FittedMap(method, made.fitted(), 200, "s", "h")


@pytest.mark.parametrize("method", list(CALIBRATORS))
def test_maps_are_those_that_were_fitted(method: str) -> None:
    fitted = fit(method)
    own = restore(fitted)
    answers = calibrate([of_options(row) for row in LOGITS], calibration(fitted))
    share = softmax(LOGITS, axis=1)
    if method in ("temperature", "vector"):
        mapped = softmax(own.transform(LOGITS), axis=1)
        expected, best = mapped.max(1), mapped.argmax(1)
    else:
        expected, best = own.transform(share.max(1)), share.argmax(1)
    for row, answer in enumerate(answers):
        assert answer.confidence == pytest.approx(expected[row], rel=1e-12)
        assert answer.answer == LABELS[best[row]]
        assert answer.raw_confidence == pytest.approx(share[row, best[row]])
        probabilities = [each.probability for each in answer.alternatives]
        assert sum(probabilities) == pytest.approx(1)
        assert probabilities == sorted(probabilities, reverse=True)
        assert {each.answer for each in answer.alternatives} == set(LABELS)
        assert not answer.abstain


def test_vector_scaling_moves_some_answers() -> None:
    answers = calibrate([of_options(row) for row in LOGITS], calibration(fit("vector")))
    assert any(a.answer != LABELS[row.argmax()] for a, row in zip(answers, LOGITS, strict=True))


@given(
    st.lists(st.floats(-30, 0), min_size=2, max_size=4),
    st.floats(0.05, 20),
    st.floats(0, 1),
)
def test_whatever_the_map_the_shares_are_a_distribution(logprobs, temperature, accuracy) -> None:
    heat = FittedMap("temperature", {"temperature": temperature, "at_bound": False}, 9, "s", "h")
    flat = {"confidence": [0.0, 1.0], "accuracy": [accuracy, accuracy]}
    for fitted in (None, heat, FittedMap("isotonic", flat, 9, "s", "h")):
        (answer,) = calibrate([of_options(logprobs)], calibration(fitted))
        assert sum(each.probability for each in answer.alternatives) == pytest.approx(1)
        shown = {each.answer: each.probability for each in answer.alternatives}
        assert shown[answer.answer] == answer.confidence
        assert 0 <= answer.confidence <= 1
    assert answer.confidence == pytest.approx(accuracy)
    own = softmax(logprobs)
    if 0 < own.max() < 1:  # the others keep their proportions
        rest = own / np.delete(own, own.argmax()).sum() * (1 - accuracy)
        for option, value in zip(LABELS, rest, strict=False):
            assert option == answer.answer or shown[option] == pytest.approx(value, abs=1e-9)


def test_no_map_leaves_the_models_own_confidence() -> None:
    (answer,) = calibrate([of_options([-1.0, -2.0])], calibration())
    assert answer.confidence == answer.raw_confidence == pytest.approx(1 / (1 + math.exp(-1)))


def test_certain_answer_shares_the_rest_evenly() -> None:
    flat = {"confidence": [0.0, 1.0], "accuracy": [0.7, 0.7]}
    raw = of_options([0.0, -math.inf, -math.inf])
    (answer,) = calibrate([raw], calibration(FittedMap("isotonic", flat, 9, "s", "h")))
    assert [each.probability for each in answer.alternatives] == pytest.approx([0.7, 0.15, 0.15])


@pytest.mark.parametrize("confidence", ["mean", "joint"])
def test_generated_answers_have_the_recorded_definition(confidence: str) -> None:
    raw = of_text(0.8, 0.3)
    (plain,) = calibrate([raw], calibration(confidence=confidence))
    assert plain.confidence == plain.raw_confidence == raw.confidence[confidence]
    assert plain.tokens == raw.tokens
    line = FittedMap("platt", {"slope": 0.5, "intercept": -1.0}, 9, "s", "h")
    (mapped,) = calibrate([raw], calibration(line, confidence=confidence))
    own = raw.confidence[confidence]
    score = 0.5 * math.log(own / (1 - own)) - 1
    assert mapped.confidence == pytest.approx(1 / (1 + math.exp(-score)))
    assert mapped.alternatives[0].probability == mapped.confidence


def test_temperature_of_generated_answers_is_refused() -> None:
    with pytest.raises(RefusedInput, match="recalibrate with platt or isotonic"):
        calibrate([of_text(0.8, 0.3)], calibration(fit("temperature"), confidence="mean"))


def test_vector_scaling_of_other_numbers_of_options_is_refused_by_index() -> None:
    with pytest.raises(RefusedInput, match="input 6: logits must have 4 options"):
        calibrate([of_options([-1.0, -2.0])], calibration(fit("vector")), first=6)


@pytest.mark.parametrize(
    ("parameters", "what"),
    [
        ({"temperature": -1.0, "at_bound": False}, "must be a positive number"),
        ({"temperature": 1.0}, "at_bound must be true or false"),
        ({}, "temperature"),
    ],
)
def test_parameters_that_cannot_be_fitted_are_refused(parameters, what) -> None:
    with pytest.raises(InputError, match=what):
        restore(FittedMap("temperature", parameters, 9, "s", "h"))


def test_first_rule_is_obeyed_at_its_threshold() -> None:
    raw = of_options([-1.0, -1.0])
    for threshold, abstains in ((0.5, False), (0.5000001, True), (None, True)):
        rules = (rule(0.05, threshold), rule(0.2, 0.0))
        (answer,) = calibrate([raw], calibration(None, *rules))
        assert answer.abstain is abstains
