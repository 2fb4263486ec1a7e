"""Rows that a task lost because a later split has their questions are told where they are used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cogcalib import cli
from cogcalib.tasks import load_task

SPLITS = ("train", "test")
SAID = "mine: 3 rows dropped from train, their questions stand in test too; 8 are left"


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """Multiple choice; three of the eleven training rows stand in the test split, too."""
    atlas = load_task("atlas/country").splits
    rows = {
        split: [
            {"q": e.prompt, "texts": [o.text for o in e.options or ()], "a": e.answer}
            for e in atlas[split][:8]
        ]
        for split in SPLITS
    }
    rows["train"] += rows["test"][:3]
    for split, lines in rows.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / f"{split}.jsonl").write_text(text, encoding="utf-8")
    definition = {
        "name": "mine",
        "description": "for tests",
        "kind": "multiple-choice",
        "source": {"parts": {split: {"file": f"{split}.jsonl"} for split in SPLITS}},
        "question": "{q}",
        "options": {"column": "texts", "labels": ["A", "B", "C", "D"]},
        "answer": "a",
        "splits": {split: {"part": split} for split in SPLITS},
    }
    (tmp_path / "mine.yaml").write_text(json.dumps(definition), encoding="utf-8")
    return tmp_path / "mine.yaml"


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(words) == 0
    return " ".join(capsys.readouterr().out.split())


def test_score_tells_them(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["score", "--model", "atlas", "--task", str(task), "--split"]
    assert SAID in told([*words, "train"], capsys)
    assert SAID not in told([*words, "test"], capsys)
    # Shots come from the training split.
    assert SAID in told([*words, "test", "--shots", "2"], capsys)


def test_probe_tells_them(task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["probe", "--model", "atlas", "--task", str(task), "--shots", "0", "--split"]
    assert SAID in told([*words, "train", "--output", str(tmp_path / "out")], capsys)
    assert SAID not in told([*words, "test", "--output", str(tmp_path / "other")], capsys)


def test_showing_a_task_tells_them(task: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert SAID in told(["tasks", "show", str(task)], capsys)
