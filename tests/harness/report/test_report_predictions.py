"""`cogcalib report` on what lm-evaluation-harness logged: several tasks, several models."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cogcalib import cli
from cogcalib.harness.report import prediction_rows
from cogcalib.harness.report.predictions import UNKNOWN_SPLIT
from cogcalib.jsonl import write_jsonl
from cogcalib.scoring.lm_eval import is_samples, read_samples

LOGGED = Path(__file__).parents[2] / "scoring" / "lm_eval_samples"
DATE = "2026-11-23T14-04-04.485759"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """What ``lm_eval --log_samples --output_path out`` leaves of two models and three tasks."""
    for model in ("one__model", "other__model"):
        (tmp_path / "out" / model).mkdir(parents=True)
        for task in ("letters", "texts_mi", "inputs"):
            name = f"samples_{task}_{DATE}.jsonl"
            shutil.copy(LOGGED / name, tmp_path / "out" / model / name)
    return tmp_path / "out"


def test_every_task_and_model_becomes_a_row(out: Path) -> None:
    paths = sorted(out.glob("*/samples_*.jsonl"))
    rows = prediction_rows(paths, resamples=20)
    assert {(row["method"], row["task"]) for row in rows} == {
        (model, task)
        for model in ("one__model", "other__model")
        for task in ("letters", "texts_mi", "inputs")
    }
    for row, path in zip(rows, paths, strict=True):
        predictions = read_samples(path)
        assert (row["n"], row["seed"], row["split"]) == (3, None, UNKNOWN_SPLIT)
        assert row["accuracy"] == pytest.approx(sum(each.correct for each in predictions) / 3)
        assert set(row["ece"]) == {"options"}


def test_tables_are_printed_with_their_definitions(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(path) for path in sorted(out.glob("*/samples_*.jsonl"))]
    assert cli.main(["report", *paths, "--split", "validation"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for task in ("letters", "texts_mi", "inputs"):
        assert f"{task} · validation · n = 3" in printed
    # Of each task the usual two tables, all metrics, and the differences.
    assert printed.count("15 equal-width bins, confidence: options, n = 3") == 9
    assert printed.count("one__model") == printed.count("other__model") == 15


def test_samples_stand_beside_predictions_of_our_own(out: Path, tmp_path: Path) -> None:
    logged = out / "one__model" / f"samples_letters_{DATE}.jsonl"
    mine = write_jsonl(tmp_path / "mine.jsonl", read_samples(logged, split="validation"))
    assert is_samples(logged)
    assert not is_samples(mine)
    rows = prediction_rows([logged, mine], samples_split="validation", resamples=20)
    assert {row["method"] for row in rows} == {"mine", "one__model"}
    assert len({(row["task"], row["split"]) for row in rows}) == 1


def test_two_runs_in_one_file_become_a_row_each(out: Path, tmp_path: Path) -> None:
    once = read_samples(out / "one__model" / f"samples_letters_{DATE}.jsonl")
    path = tmp_path / "both.jsonl"
    write_jsonl(path, [replace(row, run=run) for run in ("first", "second") for row in once])
    rows = prediction_rows([path], resamples=20)
    assert [(row["method"], row["n"]) for row in rows] == [
        ("both (one__model, first)", len(once)),
        ("both (one__model, second)", len(once)),
    ]


def test_a_task_run_twice_names_the_run(out: Path) -> None:
    first = out / "one__model" / f"samples_letters_{DATE}.jsonl"
    later = first.with_name("samples_letters_2026-11-24T09-00-00.000000.jsonl")
    shutil.copy(first, later)
    rows = prediction_rows([first, later], resamples=20)
    assert [row["method"] for row in rows] == [
        f"one__model ({DATE})",
        "one__model (2026-11-24T09-00-00.000000)",
    ]


def test_what_cannot_be_shown_is_refused_by_name(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = out / "one__model" / f"samples_letters_{DATE}.jsonl"
    copied = tmp_path / "one__model" / path.name
    copied.parent.mkdir()
    shutil.copy(path, copied)
    with pytest.raises(ValueError, match="of one model, task and run"):
        prediction_rows([path, copied])
    generated = tmp_path / "one__model" / f"samples_strict_{DATE}.jsonl"
    lines = (LOGGED / f"samples_generated_{DATE}.jsonl").read_text("utf-8").split("\n")
    strict = [line for line in lines if line and json.loads(line)["filter"] == "strict"]
    generated.write_text("\n".join(strict), encoding="utf-8")
    with pytest.raises(ValueError, match=r"samples_strict.*logs no probabilities"):
        prediction_rows([generated])
    renamed = path.rename(path.with_name("mine.jsonl"))
    assert cli.main(["report", str(renamed)]) == 2
    assert "mine.jsonl: samples of lm-evaluation-harness are called" in capsys.readouterr().err
    mine = write_jsonl(tmp_path / "own.jsonl", read_samples(copied))
    assert cli.main(["report", str(mine), "--split", "validation"]) == 2
    assert "none of the files is one" in capsys.readouterr().err
    assert cli.main(["report", str(tmp_path), "--split", "validation"]) == 2
