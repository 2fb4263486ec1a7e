"""Rows kept beside predictions: believed where they are whole and of these, else made again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cogcalib.harness.reproduce import kept_rows
from cogcalib.harness.reproduce.kept_rows import read_rows
from cogcalib.harness.run_folder import RunFolder
from cogcalib.records import Prediction


def predict(folder: RunFolder, method: str, seed: int, confidence: float = 0.75) -> None:
    rows = [
        Prediction(
            str(number), "t", "test", "A", "AB"[number % 2], number % 2 == 0, 0.7,
            {"vocab": confidence}, None, method, "r",
        )
        for number in range(8)
    ]  # fmt: skip
    folder.write_predictions(folder.predictions(method, seed), rows)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setattr(kept_rows, "RESAMPLES", 20)
    made = RunFolder(tmp_path)
    predict(made, "sft", 0)
    return made


def test_whole_rows_are_not_made_again(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_rows(folder, "sft", 0)
    monkeypatch.setattr(kept_rows, "summarize", lambda *_, **__: 1 / 0)
    assert read_rows(folder, "sft", 0) == first


@pytest.mark.parametrize("text", ["", "[]", "[1]", "{}", '{"rows": [1], "of": "x"}', "garbage"])
def test_damaged_rows_are_made_again(folder: RunFolder, text: str) -> None:
    first, kept = read_rows(folder, "sft", 0), folder.summary("sft", 0)
    whole = kept.read_text(encoding="utf-8")
    kept.write_text(text, encoding="utf-8")
    assert read_rows(folder, "sft", 0) == first
    assert kept.read_text(encoding="utf-8") == whole


def test_changed_rows_and_those_of_others_are_made_again(folder: RunFolder) -> None:
    first, kept = read_rows(folder, "sft", 0), folder.summary("sft", 0)
    held = json.loads(kept.read_text(encoding="utf-8"))
    held["rows"][0]["accuracy"] = 0.99
    kept.write_text(json.dumps(held), encoding="utf-8")
    assert read_rows(folder, "sft", 0) == first
    for method, seed in (("sft", 1), ("ls", 0)):
        predict(folder, method, seed)
        folder.summary(method, seed).write_bytes(kept.read_bytes())
        (row,) = read_rows(folder, method, seed)
        assert (row["method"], row["seed"]) == (method, seed)
    predict(folder, "sft", 0, confidence=0.5)
    assert read_rows(folder, "sft", 0) != first
