"""`calibration.json`: read back as written, and refused where it does not belong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cogcalib.deployment.calibration_file import (
    FILE,
    AbstentionRule,
    AnswerFormat,
    Calibration,
    FittedMap,
    ModelIdentity,
    SplitMetrics,
    read_calibration,
    write_calibration,
)
from cogcalib.records import InputError

MODEL = ModelIdentity("atlas", "ab", None, "cd", "ef")
ANSWERS = AnswerFormat("options", "options", options=(" A", " B"))
WHOLE = Calibration(
    MODEL,
    ANSWERS,
    FittedMap("temperature", {"temperature": 1.5}, 200, "calibration.jsonl", "ef"),
    (AbstentionRule(0.05, 0.1, 0.9, 200, 0.5, (0.4, 0.6), 0.01, "held-out.jsonl", "01"),),
    (SplitMetrics("calibration", 200, "ef", {"ece": {"value": 0.1, "low": 0.0, "high": 0.2}}),),
    {"n": 3, "sha256": "23"},
    (0.5, 0.5),
    "label_smoothing",
)


def test_a_calibration_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    write_calibration(tmp_path, WHOLE)
    read = read_calibration(tmp_path)
    assert replace(read, versions={}) == WHOLE
    assert read.versions["cogcalib"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("schema", 2, "schema must be 1, got 2; upgrade cogcalib"),
        ("schema", None, "recalibrate"),
        ("surplus", 1, "unknown fields"),
        ("model", {"name": "atlas"}, "missing fields"),
        ("answers", {"kind": "letters", "confidence": "options"}, "kind must be one of"),
        ("answers", {"kind": "options", "confidence": "joint"}, "confidence must be one of"),
        ("confidence_histogram", ["a"], "must be a number"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, key: str, value: object, said: str) -> None:
    path = write_calibration(tmp_path, WHOLE)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(InputError, match=said):
        read_calibration(tmp_path)


def test_a_model_without_one_is_told_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"has no {FILE}.*recalibrate"):
        read_calibration(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threshold": float("nan")}, "threshold must be a finite number"),
        ({"threshold": 5}, r"threshold must lie in \[0, 1\]"),
        ({"target_error": 1}, "target_error must lie between 0 and 1"),
        ({"delta": -1}, "delta must lie between 0 and 1"),
        ({"coverage": 7}, "coverage must lie in"),
        ({"n": -5}, "n must be at least 1"),
    ],
)
def test_a_rule_that_nobody_can_have_written_is_refused(
    tmp_path: Path, change: dict[str, float], said: str
) -> None:
    path = write_calibration(tmp_path, WHOLE)
    content = json.loads(path.read_text())
    content["rules"][0] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=said):
        read_calibration(tmp_path)


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = write_calibration(tmp_path, WHOLE)
    path.write_text(path.read_text().rstrip().rstrip("}") + ', "rules": []}')
    with pytest.raises(InputError, match="the key 'rules' comes more than once"):
        read_calibration(tmp_path)
