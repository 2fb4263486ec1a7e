"""`cogcalib report` reads predictions once, for the page and for the terminal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from run_builder import COUNTRY, build_run

from cogcalib import cli
from cogcalib.harness import run_folder
from cogcalib.harness.report import load_run, run_results
from cogcalib.harness.run_folder import RunFolder


def test_predictions_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = build_run(tmp_path / "run", methods=("base", "sft", "cols"), seeds=(0,))
    read: Counter[Path] = Counter()
    for name in ("read_predictions", "read_jsonl"):
        real = getattr(run_folder, name)

        def counting(path, *rest, real=real):
            read[Path(path)] += 1
            return real(path, *rest)

        monkeypatch.setattr(run_folder, name, counting)
    assert cli.main(["report", str(run)]) == 0
    assert {path.parent.name for path in read} >= {"splits", "seed-0"}
    predictions = {n for path, n in read.items() if path.parent.name == "seed-0"}
    assert predictions == {1}
    assert max(read.values()) <= 2  # the questions: by the run folder's check, and by the page


def test_a_run_keeps_no_more_than_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = load_run(build_run(tmp_path / "run", methods=("sft", "cols"), seeds=(0,)))
    monkeypatch.setattr(run_results, "MOST_KEPT", 1500)
    first = run.predictions("sft", 0, COUNTRY)
    assert run.predictions("sft", 0, COUNTRY) is first
    again = run.predictions("cols", 0, COUNTRY)
    assert run.predictions("cols", 0, COUNTRY) is not again
    assert run.predictions("cols", 0, COUNTRY) == again


def test_a_folder_read_before_is_not_asked_for_its_questions_again(tmp_path: Path) -> None:
    folder = RunFolder(build_run(tmp_path / "run", methods=("sft",), seeds=(0,)))
    questions = folder.questions
    assert load_run(folder).folder.questions is questions
