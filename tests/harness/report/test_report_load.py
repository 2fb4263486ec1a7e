"""A run folder read back: what must be there, what may be missing, what is malformed."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cogcalib.harness.report import Run, load_run
from cogcalib.harness.report.mistakes import confident_mistakes
from cogcalib.harness.report.run_results import known_shares
from cogcalib.harness.report.summary import group_rows
from cogcalib.jsonl import write_jsonl


@pytest.fixture
def copy(run_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_dir, tmp_path / "copy"))


def test_what_the_gate_called_known_is_read_off_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert known_shares(log) == (None, None)
    write_jsonl(log, [{"step": 1, "share_known": 0.5}, {"step": 2, "known_first_epoch": None}])
    assert known_shares(log) == (None, None)
    last = {"train_loss": 0.1, "known_first_epoch": 0.43, "known_last_epoch": 0.97}
    write_jsonl(log, [{"step": 1, "loss": 1.0}, {"step": 2} | last])
    assert known_shares(log) == (0.43, 0.97)


def test_everything_is_read(run: Run) -> None:
    assert run.name == "two-seeds"
    assert run.config["tasks"]["train"] == "atlas/country"
    assert run.config_text.startswith("name: two-seeds")
    assert len(run.probe) == 1500
    assert math.isinf(run.thresholds["cols", 0][0].value)
    assert ("sft", 0) not in run.thresholds
    assert run.logs["sft", 1][0]["step"] == 10
    assert run.manifest["train"]["n"] == 1500


def test_predictions_agree_with_the_metrics(run: Run) -> None:
    for method in ("sft", "sft+ts"):
        predictions = run.predictions(method, 1, "atlas/country")
        row = next(
            r for r in run.rows if (r["method"], r["seed"]) == (method, 1) and r["n"] == 1000
        )
        accuracy = sum(each.correct for each in predictions) / len(predictions)
        assert accuracy == pytest.approx(row["accuracy"])


@pytest.mark.parametrize("file", ["metrics.json", "record.json", "config.yaml"])
def test_missing_file_is_named(copy: Path, file: str) -> None:
    (copy / file).unlink()
    with pytest.raises(FileNotFoundError, match=file):
        load_run(copy)


def test_missing_folder_and_predictions_are_named(run: Run, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"'sft', seed 7.*atlas-country\.test\.jsonl"):
        run.predictions("sft", 7, "atlas/country")


def test_optional_artifacts_may_be_absent(copy: Path) -> None:
    shutil.rmtree(copy / "probe")
    shutil.rmtree(copy / "train")
    shutil.rmtree(copy / "splits")
    run = load_run(copy)
    assert (run.probe, dict(run.thresholds), dict(run.logs), dict(run.manifest)) == ((), {}, {}, {})
    assert run.examples == {}


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("metrics.json", "{", "metrics.json: no valid JSON"),
        ("metrics.json", "{}", "metrics.json: must hold a list, got keys and values"),
        ("metrics.json", '[{"method": "sft"}]', "metrics.json: metrics row 0 misses"),
        ("train/cols/seed-0/thresholds.json", '[{"cut": 1}]', "no valid thresholds"),
        ("train/cols/seed-0/log.jsonl", "{}\nx\n", r"log.jsonl, row 2: no valid JSON"),
        ("train/cols/seed-x/log.jsonl", "{}", "seed-<number>"),
    ],
)
def test_malformed_file_is_named(copy: Path, file: str, text: str, message: str) -> None:
    (copy / file).parent.mkdir(exist_ok=True)
    (copy / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        load_run(copy)


def test_mistakes_are_compared_with_the_variant_chosen_on_calibration(run: Run) -> None:
    rows = [
        dict(row) | {"accuracy": 1.0, "nll": 0.0}
        if (row["method"], row["split"]) == ("coecp", "calibration")
        else row
        for row in run.rows
    ]
    changed = replace(run, rows=tuple(rows))
    labels, mistakes = confident_mistakes(changed, group_rows(changed.rows)[0])
    assert labels == ("SFT", "CoECP")
    assert len(mistakes) == 8
    untuned = replace(run, rows=tuple(row for row in rows if row["split"] == "test"))
    task = group_rows(untuned.rows, in_domain=untuned.trained_on)[0]
    assert task.task == "atlas/country"
    assert confident_mistakes(untuned, task) == (("", ""), [])


def test_confident_mistakes_are_sorted_and_spelled_out(run: Run) -> None:
    labels, mistakes = confident_mistakes(run, group_rows(run.rows)[0])
    assert labels == ("SFT", "CoLS")
    assert len(mistakes) == 8
    sure = [each.confidence for each in mistakes]
    assert sure == sorted(sure, reverse=True)
    wrong = [p for p in run.predictions("sft", 0, "atlas/country") if not p.correct]
    assert sure[0] == max(each.confidence["options"] for each in wrong)
    assert mistakes[0].question.startswith("In which country")
    assert ". Land" in mistakes[0].gold
    assert mistakes[0].answer != mistakes[0].gold
