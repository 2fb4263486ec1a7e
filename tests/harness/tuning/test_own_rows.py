"""A task of rows to train on, as they are written: tuned and run like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from cogcalib import pipeline
from cogcalib.artifacts import read_json
from cogcalib.harness.config import parse_config
from cogcalib.harness.run_folder import RunFolder
from cogcalib.harness.tuning import tune
from cogcalib.jsonl import write_jsonl
from cogcalib.modeling import render_prompt
from cogcalib.records import InputError
from cogcalib.tasks import load_task

TASK = """
name: mine
description: rows of mine
kind: prompt-completion
source: {parts: {train: {file: train.jsonl}, held: {file: held.jsonl}}}
splits:
  train: {part: train}
  calibration: {part: held, share: 0.5}
  test: {part: held, share: 0.5}
"""
CONFIG = """
name: mine
methods: [sft, cols-options]
tasks: {{train: {task}}}
train: {{steps: 2, batch_size: 4}}
score: {{batch_size: 16}}
"""
LETTERS = [" A", " B", " C", " D"]


@pytest.fixture
def task(tmp_path: Path) -> Path:
    splits = load_task("atlas/country").splits
    for name, split, n in (("train", "train", 8), ("held", "test", 24)):
        rows = [
            {"prompt": render_prompt(e), "completion": f" {e.answer}", "options": LETTERS}
            for e in splits[split][:n]
        ]
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    path = tmp_path / "mine.yaml"
    path.write_text(TASK)
    return path


def test_tune_chooses_on_the_calibration_rows(task: Path, tmp_path: Path) -> None:
    config = parse_config(CONFIG.format(task=task))
    folder = tune(config, tmp_path / "runs", Console(quiet=True), budget=1)
    record = read_json(folder / "tune.json", dict)
    assert [choice["method"] for choice in record["choices"]] == ["cols-options"]
    takes_the_rows_as_they_are(RunFolder(folder))


@pytest.mark.slow
def test_a_run_has_its_tables(task: Path, tmp_path: Path) -> None:
    config = parse_config(CONFIG.format(task=task))
    folder = pipeline.run(config, tmp_path / "runs", Console(quiet=True))
    rows = read_json(folder.path / "metrics.json", list)
    assert {row["task"] for row in rows} == {"mine"}
    takes_the_rows_as_they_are(folder)


def takes_the_rows_as_they_are(folder: RunFolder) -> None:
    assert read_json(folder.path / "tasks.json", dict)["mine"]["prompt"] == "verbatim"
    answers = read_json(folder.train("sft", 0) / "calibration.json", dict)["answers"]
    assert (answers["preset"], answers["options"]) == (None, LETTERS)


def test_a_wording_is_refused(task: Path, tmp_path: Path) -> None:
    config = parse_config(CONFIG.format(task=task), ["tasks.prompt=blob"])
    with pytest.raises(InputError, match="prompt: mine has rows that stand as they are written"):
        pipeline.run(config, tmp_path / "runs", Console(quiet=True))
