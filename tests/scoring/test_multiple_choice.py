from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from cogcalib.modeling import encode, surface_ids
from cogcalib.records import Option
from cogcalib.scoring import ScoreSettings, answer_logits, predict_from_logits, score

named = partial(ScoreSettings, model_name="m", run="r")


def plain_logits(model, tokenizer, example):
    """Logits at the answer position of one example, by a plain forward pass, float64."""
    with torch.no_grad():
        logits = model(torch.tensor([encode(example, tokenizer).prompt_ids])).logits
    return logits[0, -1].double().numpy()


def log_softmax(values):
    shifted = values - values.max()
    return shifted - np.log(np.exp(shifted).sum())


def test_predictions_equal_a_plain_forward(model, tokenizer, choices):
    for example, row in zip(choices, score(model, tokenizer, choices, named()), strict=True):
        log_p = log_softmax(plain_logits(model, tokenizer, example))
        encoded, (forms,) = encode(example, tokenizer), surface_ids([example], tokenizer)
        letters = [option.letter for option in example.options]
        options = log_p[list(encoded.option_ids)]
        surface = np.array([np.exp(log_p[list(ids)]).sum() for ids in forms])
        assert all(len(ids) == 2 for ids in forms), "both forms must take part"

        np.testing.assert_allclose(row.option_logprobs, options, atol=1e-10)
        share = log_softmax(options)
        assert row.nll == pytest.approx(-share[letters.index(example.answer)], abs=1e-10)
        assert row.prediction == letters[int(options.argmax())]
        assert row.correct == (row.prediction == example.answer)
        assert row.confidence == {
            "vocab": pytest.approx(np.exp(log_p.max()), abs=1e-10),
            "options": pytest.approx(np.exp(share.max()), abs=1e-10),
            "surface": pytest.approx(surface.max() / surface.sum(), abs=1e-10),
        }
        assert (row.id, row.task, row.split, row.answer) == (example.id, "t", "test", row.answer)
        assert (row.model, row.run) == ("m", "r")


def test_examples_include_right_and_wrong_answers(llama, tokenizer, choices):
    assert {row.correct for row in score(llama, tokenizer, choices, named())} == {True, False}


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_batch_size_does_not_matter(model, tokenizer, choices, batch_size):
    whole = score(model, tokenizer, choices, named())
    for one, other in zip(
        whole, score(model, tokenizer, choices, named(batch_size=batch_size)), strict=True
    ):
        assert replace(one, nll=0, confidence={}, option_logprobs=()) == replace(
            other, nll=0, confidence={}, option_logprobs=()
        )
        assert one.confidence == pytest.approx(other.confidence, abs=1e-12)
        assert one.option_logprobs == pytest.approx(other.option_logprobs, abs=1e-10)
        assert one.nll == pytest.approx(other.nll, abs=1e-10)


def test_results_come_in_the_order_given(llama, tokenizer, choices):
    forth = score(llama, tokenizer, choices, named(batch_size=8))
    back = score(llama, tokenizer, choices[::-1], named(batch_size=8))
    assert [row.id for row in forth] == [example.id for example in choices]
    assert [row.id for row in back] == [example.id for example in choices[::-1]]


def test_reordered_options_are_scored_under_their_new_letters(model, tokenizer, choices):
    example = choices[2]
    swapped = example.reordered([3, 1, 0, 2])
    assert swapped.answer_text == example.answer_text
    ((gold,), (row,)) = (score(model, tokenizer, [e], named()) for e in (example, swapped))
    log_p = log_softmax(plain_logits(model, tokenizer, swapped))
    ids = list(encode(swapped, tokenizer).option_ids)
    np.testing.assert_allclose(row.option_logprobs, log_p[ids], atol=1e-10)
    assert row.answer == swapped.answer
    assert row.option_logprobs != pytest.approx(gold.option_logprobs)
    assert score(model, tokenizer, [swapped.reordered([2, 1, 3, 0])], named()) == [gold]


def test_options_confidence_follows_from_the_logprobs(model, tokenizer, choices):
    for row in score(model, tokenizer, choices, named(temperature={"options": 3.0})):
        share = np.exp(log_softmax(np.array(row.option_logprobs)))
        assert row.confidence["options"] == pytest.approx(share.max())
        assert row.nll == pytest.approx(-np.log(share["ABCD".index(row.answer)]))


def test_temperature_one_changes_nothing(model, tokenizer, choices):
    ones = dict.fromkeys(("vocab", "options", "surface"), 1.0)
    assert score(model, tokenizer, choices, named(temperature=ones)) == score(
        model, tokenizer, choices, named()
    )


def test_each_definition_has_its_own_temperature(llama, tokenizer, choices):
    plain = score(llama, tokenizer, choices, named())
    for name in ("vocab", "options", "surface"):
        for cold, row in zip(
            plain, score(llama, tokenizer, choices, named(temperature={name: 2.0})), strict=True
        ):
            assert row.prediction == cold.prediction
            changed = {key for key in row.confidence if row.confidence[key] != cold.confidence[key]}
            assert changed == {name}
            assert (row.nll != cold.nll) == (name == "options")
            assert (row.option_logprobs != cold.option_logprobs) == (name == "options")


def test_temperature_scales_the_logits(llama, tokenizer, choices):
    heat = {"vocab": 2.5, "options": 2.5, "surface": 2.5}
    for example, row in zip(
        choices, score(llama, tokenizer, choices, named(temperature=heat)), strict=True
    ):
        log_p = log_softmax(plain_logits(llama, tokenizer, example) / 2.5)
        assert row.confidence["vocab"] == pytest.approx(np.exp(log_p.max()), abs=1e-10)


def test_high_temperature_flattens(llama, tokenizer, choices):
    heat = {"vocab": 1e6, "options": 1e6, "surface": 1e6}
    for example, row in zip(
        choices, score(llama, tokenizer, choices, named(temperature=heat)), strict=True
    ):
        n = len(example.options)
        assert row.confidence["vocab"] == pytest.approx(1 / llama.config.vocab_size, rel=1e-3)
        assert row.confidence["options"] == pytest.approx(1 / n, rel=1e-3)
        assert row.confidence["surface"] == pytest.approx(1 / n, rel=1e-3)


def test_predictions_from_logits_equal_score(llama, tokenizer, choices):
    logits, gold = answer_logits(llama, tokenizer, choices, named(batch_size=3))
    assert logits.shape == (8, llama.config.vocab_size)
    assert logits.dtype == np.float32
    assert gold.tolist() == [encode(e, tokenizer).answer_ids[0] for e in choices]
    heat = {"vocab": 0.5, "options": 2.0}
    rows = predict_from_logits(logits, choices, tokenizer, named(temperature=heat))
    for ours, theirs in zip(
        rows, score(llama, tokenizer, choices, named(temperature=heat)), strict=True
    ):
        assert ours.prediction == theirs.prediction
        assert ours.confidence == pytest.approx(theirs.confidence, abs=1e-5)
        assert ours.nll == pytest.approx(theirs.nll, abs=1e-4)


def test_logits_may_be_log_probabilities(tokenizer, choices):
    size = len(tokenizer)
    p = np.full((1, size), 0.4 / (size - 4))
    (forms,) = surface_ids(choices[:1], tokenizer)
    p[0, [*forms[0], *forms[1]]] = [0.1, 0.2, 0.25, 0.05]
    (row,) = predict_from_logits(np.log(p), choices[:1], tokenizer, named())
    assert row.prediction == "B"
    assert row.confidence == {
        "vocab": pytest.approx(0.25),
        "options": pytest.approx(0.25 / 0.35),
        "surface": pytest.approx(0.5),
    }
    assert row.nll == pytest.approx(-np.log(0.1 / 0.35))


def test_certainty_stays_within_one(tokenizer, choices):
    logits = np.zeros((1, len(tokenizer)))
    logits[0, encode(choices[0], tokenizer).option_ids[0]] = 1e4
    (row,) = predict_from_logits(logits, choices[:1], tokenizer, named())
    assert row.confidence == {"vocab": 1.0, "options": 1.0, "surface": 1.0}
    assert str(row.nll) == "0.0"


def test_more_options_than_letters_of_one_alphabet(llama, tokenizer, choices):
    letters = "ABCDEFGHIJ"
    options = tuple(Option(letter, f"text {letter}") for letter in letters)
    example = replace(choices[0], options=options, answer="J")
    (row,) = score(llama, tokenizer, [example], named())
    assert len(row.option_logprobs) == 10


def test_bad_input_is_refused(llama, tokenizer, choices, questions):
    logits = np.zeros((2, len(tokenizer)))
    with pytest.raises(ValueError, match=r"logits must have shape \[8, V\].*got \[2, "):
        predict_from_logits(logits, choices, tokenizer, named())
    with pytest.raises(ValueError, match="'q0' is open-ended"):
        predict_from_logits(logits, questions[:2], tokenizer, named())
    assert predict_from_logits(logits[:0], [], tokenizer, named()) == []
    with pytest.raises(ValueError, match=r"among options, vocab, surface, got \['mean'\]"):
        score(llama, tokenizer, choices, named(temperature={"mean": 2.0}))
    for value in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"temperature\['vocab'\] must be positive"):
            score(llama, tokenizer, choices, named(temperature={"vocab": value}))


def test_very_sure_answers_are_still_ranked(tokenizer, choices):
    asked = choices[2:3] * 3
    letter = encode(asked[0], tokenizer).option_ids[0]
    logits = torch.zeros(3, len(tokenizer))
    logits[:, letter] = torch.tensor([25.0, 27.0, 29.0])
    rows = predict_from_logits(logits, asked, tokenizer)
    for name in ("vocab", "options", "surface"):
        low, middle, high = (row.confidence[name] for row in rows)
        assert 1 - 1e-7 < low < middle < high < 1, name
    others = (len(tokenizer) - 1) * math.exp(-29)
    assert 1 - rows[2].confidence["vocab"] == pytest.approx(others, rel=1e-4)
