from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from cogcalib.metrics import (
    auroc,
    bootstrap_interval,
    evaluate,
    expected_calibration_error,
    selective_accuracy,
)
from cogcalib.records import Prediction
from cogcalib.scoring import primary_definition, summarize

CASE = [  # right, nll, vocab, options
    (True, 0.1, 0.9, 0.95),
    (True, 0.2, 0.9, 0.95),
    (False, 2.0, 0.7, 0.75),
    (False, 1.7, 0.4, 0.50),
]
KEYS = [
    "method",
    "task",
    "split",
    "seed",
    "n",
    "accuracy",
    "nll",
    "brier",
    "ece",
    "ece_mass",
    "mce",
    "smooth_ece",
    "aurc",
    "coverage_at_90",
    "coverage_at_95",
    "selective_accuracy",
    "risk_coverage",
    "auroc",
    "intervals",
    "confidence",
    "small_n",
    "known_first_epoch",
    "known_last_epoch",
]


def prediction(id, right, nll, confidence):
    return Prediction(
        id,
        "atlas/country",
        "test",
        "A",
        "A" if right else "B",
        right,
        nll,
        confidence,
        None,
        "m",
        "r",
    )


@pytest.fixture
def predictions():
    return [
        prediction(str(i), right, nll, {"vocab": vocab, "options": options})
        for i, (right, nll, vocab, options) in enumerate(CASE)
    ]


def test_row_of_a_handmade_case(predictions):
    row = summarize(predictions, method="cols", seed=3, known=(0.25, 0.5), resamples=50)
    assert list(row) == KEYS
    assert {key: row[key] for key in (*KEYS[:5], *KEYS[-2:])} == {
        "method": "cols",
        "task": "atlas/country",
        "split": "test",
        "seed": 3,
        "n": 4,
        "known_first_epoch": 0.25,
        "known_last_epoch": 0.5,
    }
    assert row["small_n"] is True
    assert row["accuracy"] == 0.5
    assert row["nll"] == pytest.approx(1.0)
    assert row["brier"] == pytest.approx((0.0025 + 0.0025 + 0.5625 + 0.25) / 4)
    assert row["risk_coverage"] == {
        "options": {
            "coverage": [k / 10 for k in range(1, 11)],
            "error": pytest.approx([0, 0, 0, 0, 0, 1 / 3, 1 / 3, 0.5, 0.5, 0.5]),
        }
    }
    for wanted in (90, 95):
        found = row[f"coverage_at_{wanted}"]["options"]
        assert (found["value"], found["threshold"]) == (0.5, 0.95)
        assert found["accuracy"] == wanted / 100
    # Bins of width 1/15: the two at .9 share one, with accuracy 1; the others are alone and wrong.
    assert row["ece"]["vocab"]["value"] == pytest.approx((2 * 0.1 + 0.7 + 0.4) / 4)
    assert row["ece"]["options"]["value"] == pytest.approx((2 * 0.05 + 0.75 + 0.5) / 4)
    assert row["auroc"] == {"vocab": 1.0, "options": 1.0}
    assert row["confidence"] == {
        "vocab": pytest.approx(0.725),
        "options": pytest.approx(0.7875),
    }


def test_intervals_hold_their_value(predictions):
    row = summarize(predictions, method="sft", seed=0, resamples=200)
    for name in ("accuracy", "nll", "brier"):
        low, high = row["intervals"][name]
        assert low < row[name] < high
    for kind, binning in (("ece", "width"), ("ece_mass", "mass")):
        for bounds in row[kind].values():
            assert bounds.keys() - {"floor"} == {"value", "low", "high", "bins", "binning"}
            assert ("floor" in bounds) == (kind == "ece")
            assert (bounds["bins"], bounds["binning"]) == (15, binning)
            assert 0 <= bounds["low"] < bounds["high"] <= 1


def test_metrics_of_the_primary_definition_are_those_of_the_metrics_room():
    draws = np.random.default_rng(1)
    confidence, correct = draws.uniform(size=300), draws.uniform(size=300) < 0.7
    rows = [
        prediction(str(i), bool(right), 1.0, {"vocab": float(value) ** 2, "options": float(value)})
        for i, (value, right) in enumerate(zip(confidence, correct, strict=True))
    ]
    row = summarize(rows, method="sft", seed=0, resamples=50)
    whole = evaluate(confidence, correct, resamples=50).metrics
    for name in ("ece", "ece_mass", "mce", "smooth_ece", "aurc", "coverage_at_95"):
        found = row[name]["options"]
        name = {"coverage_at_95": "coverage_at_accuracy"}.get(name, name)
        assert [found[key] for key in ("value", "low", "high")] == [
            whole[name].value, whole[name].low, whole[name].high,
        ]  # fmt: skip
    assert set(row["aurc"]) == {"options"}
    assert (row["mce"]["options"]["bins"], row["mce"]["options"]["binning"]) == (15, "width")
    selective = row["selective_accuracy"]["options"]
    assert selective["threshold"] == 0.9
    assert selective["value"] == selective_accuracy(confidence, correct, threshold=0.9)
    assert selective["low"] <= selective["value"] <= selective["high"]
    assert selective["answered"] == sum(value >= 0.9 for value in confidence)


def test_undefined_values_are_none(predictions):
    row = summarize(
        [replace(each, confidence={"vocab": 0.5}) for each in predictions],
        method="sft",
        seed=0,
        resamples=20,
    )
    selective = row["selective_accuracy"]["vocab"]
    assert (selective["value"], selective["low"], selective["high"]) == (None, None, None)
    json.dumps(row, allow_nan=False)


def test_equal_mass_error_is_that_of_the_metric():
    draws = np.random.default_rng(0)
    confidence, correct = draws.uniform(size=600), draws.uniform(size=600) < 0.4
    rows = [
        prediction(str(i), bool(right), 1.0, {"mean": float(value), "joint": float(value) ** 2})
        for i, (value, right) in enumerate(zip(confidence, correct, strict=True))
    ]
    row = summarize(rows, method="sft", seed=0, resamples=50)
    assert row["small_n"] is False
    # Squaring keeps the order, so both definitions share one AUROC and one interval.
    low, high = row["intervals"]["auroc"]["mean"]
    assert low < row["auroc"]["mean"] < high
    assert (low, high) == bootstrap_interval(auroc, confidence, correct, resamples=50)
    assert row["intervals"]["auroc"]["joint"] == [low, high]
    for name, values in (("mean", confidence), ("joint", confidence**2)):
        for key, binning in (("ece", "width"), ("ece_mass", "mass")):
            expected = expected_calibration_error(values, correct, binning=binning)
            assert row[key][name]["value"] == pytest.approx(expected)
    assert row["brier"] == pytest.approx(np.mean((confidence - correct) ** 2))


def test_row_is_strict_json_and_repeatable(predictions):
    rows = [replace(row, correct=True) for row in predictions]
    row = summarize(rows, method="sft", seed=0, resamples=20)
    assert row["auroc"] == {"vocab": None, "options": None}
    assert row["intervals"]["auroc"] == {"vocab": None, "options": None}
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert summarize(rows, method="sft", seed=0, resamples=20) == row
    assert row["known_first_epoch"] is None
    assert row["known_last_epoch"] is None


def test_primary_definition(predictions):
    assert primary_definition(predictions) == "options"
    for names, primary in [
        (("joint", "mean"), "mean"),
        (("surface", "vocab"), "vocab"),
        (("joint",), "joint"),
    ]:
        row = replace(predictions[0], confidence=dict.fromkeys(names, 0.5))
        assert primary_definition([row]) == primary
    with pytest.raises(ValueError, match=r"among options, vocab, .*, got \['mine'\]"):
        primary_definition([replace(predictions[0], confidence={"mine": 0.5})])
    with pytest.raises(ValueError, match="predictions must carry a confidence"):
        primary_definition([])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "atlas/capital"}, "one task, got atlas/capital, atlas/country"),
        ({"split": "train"}, "one split, got test, train"),
        ({"model": "n"}, "one model, got m, n"),
        ({"id": "0"}, "distinct ids"),
        ({"confidence": {"vocab": 0.5}}, "share their confidence definitions"),
    ],
)
def test_mixed_predictions_are_refused(predictions, change, message):
    mixed = [*predictions[:3], replace(predictions[3], **change)]
    with pytest.raises(ValueError, match=message):
        summarize(mixed, method="sft", seed=0)


def test_no_predictions_are_refused():
    with pytest.raises(ValueError, match="predictions is empty"):
        summarize([], method="sft", seed=0)
