"""All metrics, paired differences and JSON of anybody's predictions, through the commands."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cogcalib import cli
from cogcalib.harness.report.differences import paired_predictions
from cogcalib.harness.report.predictions import read_groups
from cogcalib.jsonl import write_jsonl
from cogcalib.metrics import compare
from cogcalib.records import Prediction
from cogcalib.scoring import summarize

N = 60
METRICS = ["NLL", "Brier", "Equal-mass ECE %", "MCE %", "Smooth ECE %", "AUROC", "AURC"]
METRICS += ["ECE %", "Answered % at accuracy 90%", "Answered % at accuracy 95%"]
METRICS += ["Accuracy % at confidence 0.9"]
INTERVAL = r"-?\d+\.\d+ \[\d+\.\d+–\d+\.\d+\]"  # noqa: RUF001


def predictions(seed: int, definition: str = "vocab", model: str = "m") -> list[Prediction]:
    generator = np.random.default_rng(seed)
    confidence = generator.uniform(0.3, 1.0, N)
    correct = generator.uniform(size=N) < confidence**2
    return [
        Prediction(
            id=f"q{i}",
            task="t",
            split="test",
            answer="A",
            prediction="A" if right else "B",
            correct=bool(right),
            nll=float(-np.log(sure if right else (1 - sure) / 2 + 1e-3)),
            confidence={definition: float(sure), "options": float(sure) ** 0.5},
            option_logprobs=None,
            model=model,
            run="",
        )
        for i, (sure, right) in enumerate(zip(confidence, correct, strict=True))
    ]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write_jsonl(tmp_path / f"{name}.jsonl", predictions(i)) for i, name in enumerate("ab")]


def test_a_name_with_square_brackets_is_shown_as_it_is(tmp_path, capsys):
    path = write_jsonl(tmp_path / "x.jsonl", predictions(0, model="a[/b]c"))
    also = write_jsonl(tmp_path / "[bold]y.jsonl", predictions(1, model="d"))
    assert cli.main(["report", str(path), str(also)]) == 0
    assert "[bold]y" in capsys.readouterr().out


def test_the_nll_of_a_mapped_confidence_is_nobody_s(tmp_path, capsys):
    names = ("sft", "sft+platt")
    paths = [write_jsonl(tmp_path / f"{name}.jsonl", predictions(0)) for name in names]
    assert cli.main(["report", *map(str, paths)]) == 0
    printed = capsys.readouterr().out
    (line,) = (line for line in printed.splitlines() if line.startswith("NLL  "))
    assert re.findall(r"\S+", line)[-1] == "–"  # noqa: RUF001
    compared = printed[printed.index("paired differences") :]
    assert "Brier" in compared
    assert not re.search(r"NLL +(equal|[-+])", compared)


def test_every_metric_has_its_interval(files, capsys):
    assert cli.main(["report", str(files[0])]) == 0
    printed = capsys.readouterr().out
    for metric in METRICS:
        (line,) = [line for line in printed.splitlines() if line.startswith(metric)]
        assert re.search(INTERVAL, line), line
    assert re.search(r"(?m)^  from answers +\d+", printed)
    assert "60 (small)" in printed
    text = " ".join(printed.split())
    assert "Equal-mass ECE: 15 equal-mass bins, confidence: options, n = 60" in text
    assert "MCE: 15 equal-width bins, confidence: options, n = 60" in text
    assert re.search(r"noise floor % +\d+\.\d–\d+\.\d", printed)  # noqa: RUF001
    assert len(re.findall("(?m)^  from confidence %", printed)) == 2
    assert "Small sample (n = 60 < 500)" in text
    assert "paired" not in text


def test_models_with_other_definitions_are_each_named(tmp_path, files, capsys):
    rows = [replace(row, confidence={"vocab": 0.7}) for row in predictions(5)]
    other = write_jsonl(tmp_path / "other.jsonl", rows)
    assert cli.main(["report", str(files[0]), str(other)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "15 equal-mass bins, confidence: options, n = 60; 15 equal-mass bins" in text
    assert "ECE: 15 equal-width bins, confidence: vocab, n = 60. Paired" in text


def test_many_models_stand_in_several_tables(tmp_path, capsys):
    paths = [write_jsonl(tmp_path / f"m{i}.jsonl", predictions(i)[:20]) for i in range(6)]
    assert cli.main(["report", *map(str, paths)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("all metrics") == 2
    assert max(map(len, printed.splitlines())) <= 120


def test_differences_are_those_of_compare(files):
    (pair,), notes = paired_predictions(read_groups(files), resamples=200)
    assert (pair.one, pair.other, pair.definition, pair.n) == ("b", "a", "options", N)
    assert not notes
    one, other = (
        ([row.confidence["options"] for row in rows], [row.correct for row in rows])
        for rows in (predictions(1), predictions(0))
    )
    expected = compare(one, other, resamples=200)
    for name in ("accuracy", "brier", "ece"):
        assert pair.metrics[name] == expected[name]
    nll = [np.mean([row.nll for row in predictions(seed)]) for seed in (1, 0)]
    assert pair.metrics["nll"].difference == pytest.approx(nll[0] - nll[1])


def test_the_order_of_the_rows_does_not_matter(tmp_path, files):
    turned = write_jsonl(tmp_path / "c.jsonl", predictions(1)[::-1])
    pairs, _ = paired_predictions(read_groups([files[0], files[1], turned]), resamples=50)
    assert [pair.one for pair in pairs] == ["b", "c"]
    for name in ("accuracy", "ece"):
        assert pairs[0].metrics[name].difference == pytest.approx(pairs[1].metrics[name].difference)


def test_report_prints_and_writes_them(files, tmp_path, capsys):
    path = tmp_path / "rows.json"
    words = ["report", *map(str, files), "--json", str(path)]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert "paired differences" in printed
    for metric in ("Accuracy, points", "NLL", "Brier", "ECE, points"):
        assert re.search(rf"{metric} +[+-]\d+\.\d+ +[+-][\d.]+ to [+-][\d.]+ +[01]\.\d+", printed)
    assert "15 equal-width bins, confidence: options, n = 60. Paired" in " ".join(printed.split())
    first, second = json.loads(path.read_text())
    assert first == json.loads(json.dumps(summarize(predictions(0), method="a", seed=None)))
    found = second["differences"]["a"]["ece"]
    assert set(found) == {"difference", "low", "high", "p_value"}
    assert found["difference"] == pytest.approx(
        second["ece"]["options"]["value"] - first["ece"]["options"]["value"]
    )
    held = path.read_text()
    assert cli.main(words) == 2
    assert f"--json {path} already exists" in capsys.readouterr().err
    assert path.read_text() == held


def test_other_questions_are_not_compared_and_that_is_said(tmp_path, files, capsys):
    fewer = write_jsonl(tmp_path / "fewer.jsonl", predictions(3)[:50])
    assert cli.main(["report", str(files[0]), str(fewer)]) == 0
    printed = capsys.readouterr().out
    assert "fewer and a are not compared on t: they answer different questions" in printed
    assert "paired differences" not in printed
    rows = [replace(row, confidence={"mean": 0.5}) for row in predictions(4)]
    strange = write_jsonl(tmp_path / "strange.jsonl", rows)
    pairs, (note,) = paired_predictions(read_groups([files[0], strange]))
    assert not pairs
    assert "they share no confidence" in note


def test_rows_and_figures_of_several_runs_stand_apart(run_dir, tmp_path, capsys):
    one, two = (Path(shutil.copytree(run_dir, tmp_path / name / "demo")) for name in ("one", "two"))
    rows, figures = tmp_path / "rows.json", tmp_path / "figures"
    words = ["report", str(one), str(two), "--json", str(rows), "--figures", str(figures)]
    assert cli.main(words) == 0
    alone = json.loads((one / "metrics.json").read_text())
    found = json.loads(rows.read_text())
    assert found == [{"run": name, **row} for name in ("one/demo", "two/demo") for row in alone]
    drawn = [{path.name for path in (figures / f"{n}-demo").iterdir()} for n in (1, 2)]
    assert drawn[0] == drawn[1]
    assert drawn[0]
    capsys.readouterr()
    assert cli.main(["report", str(one), str(one)]) == 2
    assert "runs must be distinct" in capsys.readouterr().err


def test_a_runs_rows_are_written_as_they_stand(run_dir, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run_dir, folder)
    path = tmp_path / "rows.json"
    assert cli.main(["report", str(folder), "--json", str(path)]) == 0
    assert json.loads(path.read_text()) == json.loads((folder / "metrics.json").read_text())


def test_score_writes_its_row(tmp_path, capsys):
    path = tmp_path / "row.json"
    words = ["score", "--model", "atlas", "--task", "atlas/capital", "--json", str(path)]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert "all metrics" in printed
    assert "Smooth ECE %" in printed
    (row,) = json.loads(path.read_text())
    assert (row["task"], row["method"]) == ("atlas/capital", "atlas")
    assert cli.main(words) == 2
