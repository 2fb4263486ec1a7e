"""The verbs ``recalibrate`` and ``guard``: what they print and write, and what they refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from cogcalib import cli, load_task
from cogcalib.deployment import read_calibration
from cogcalib.modeling import render_prompt, resolve_model

# A copy of Atlas is a model like another, and its weights are float16.
pytestmark = pytest.mark.filterwarnings("ignore:dtype auto")


def written(path: Path, split: str, begin: int, end: int) -> Path:
    rows = [
        {
            "prompt": render_prompt(example),
            "completion": f" {example.answer}",
            "options": [f" {option.letter}" for option in example.options or ()],
        }
        for example in load_task("atlas/country").splits[split][begin:end]
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model in a folder of its own, recalibrated."""
    folder = tmp_path_factory.mktemp("guard") / "model"
    shutil.copytree(resolve_model("atlas"), folder)
    data = written(folder.parent / "calibration.jsonl", "calibration", 0, 150)
    assert cli.main(["recalibrate", str(folder), "--data", str(data)]) == 0
    return folder


def test_recalibrate_shows_before_and_after(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path / "c.jsonl", "calibration", 150, 260)
    words = ["recalibrate", str(model), "--data", str(data), "--method", "platt"]
    assert cli.main([*words, "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "c.jsonl · n = 110" in said
    assert "after platt" in said
    assert "four fifths" in said
    kept = read_calibration(tmp_path / "out").map
    assert kept is not None
    assert kept.method == "platt"


def test_a_temperature_is_said_and_so_is_one_that_a_bound_fixed(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = written(tmp_path / "good.jsonl", "calibration", 150, 210)
    rows = [json.loads(line) for line in good.read_text().splitlines()]
    for row in rows:  # always wrong where the model is right: the best it can say is nothing
        options = row["options"]
        row["completion"] = options[(options.index(row["completion"]) + 1) % len(options)]
    bad = tmp_path / "bad.jsonl"
    bad.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for data, at_bound in (good, False), (bad, True):
        out = tmp_path / data.stem
        words = ["recalibrate", str(model), "--data", str(data), "--output", str(out)]
        assert cli.main(words) == 0
        said, kept = capsys.readouterr().out, read_calibration(out).map
        assert kept is not None
        assert f"Temperature: {kept.parameters['temperature']:.3f}." in said
        assert ("not the data, fixed this map" in said) is at_bound
        assert (
            "not significantly more than guessing among the options would (25.0 %)" in said
        ) is at_bound


def test_a_temperature_halfway_says_what_it_lies_between(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = tmp_path / "tuned"
    shutil.copytree(model, tuned, ignore=shutil.ignore_patterns("calibration.json", "c*_on.txt"))
    weights = load_file(tuned / "model.safetensors")
    name = next(each for each in weights if each.endswith("norm.weight") and "layers" not in each)
    weights[name] *= 1.5  # too sure, as fine-tuning makes it
    save_file(weights, tuned / "model.safetensors", {"format": "pt"})
    data = written(tmp_path / "c.jsonl", "calibration", 0, 150)
    target = written(tmp_path / "target.jsonl", "test", 0, 60)
    words = ["recalibrate", str(tuned), "--data", str(data), "--unlabelled", str(target)]
    assert cli.main(words) == 2
    assert "name it with base" in capsys.readouterr().err
    assert cli.main([*words, "--base", str(model)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    kept = read_calibration(tuned).map
    assert kept is not None
    way = kept.halfway
    assert way is not None
    assert way.agreeing == 60  # the same model, but for its sharpness
    assert way.to_base == pytest.approx(1.5, rel=0.02)
    assert kept.parameters["temperature"] == pytest.approx((way.in_domain * way.to_base) ** 0.5)
    assert f"Temperature: {kept.parameters['temperature']:.3f}." in said
    assert f"geometric mean of {way.in_domain:.3f}, fitted to the answers in c.jsonl" in said
    assert f"and {way.to_base:.3f}, fitted without answers to the confidence of the base" in said
    assert "(model) on those 60 of 60 questions of target.jsonl" in said
    assert f"ECE on c.jsonl is {100 * way.base_ece:.1f} %" in said
    assert "target.jsonl: not read: completion." in said


def test_guard_shows_thresholds_and_writes_them(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path / "h.jsonl", "test", 0, 300)
    words = ["guard", str(model), "--data", str(data), "--target-error", "0.7", "0.01"]
    words += ["--calibration", str(model), "--output", str(tmp_path / "out")]
    assert cli.main([*words, "--plot", str(tmp_path / "risk.svg")]) == 0
    said = capsys.readouterr().out
    assert "h.jsonl · n = 300" in said
    assert "no promise" in said
    assert "1 %: nothing is promised" in said
    assert "for no others" in said
    assert (tmp_path / "risk.svg").read_text().lstrip().startswith("<?xml")
    assert f"Written: {tmp_path / 'out' / 'calibration.json'}" in said
    assert not read_calibration(model).rules
    rules = read_calibration(tmp_path / "out").rules
    assert [rule.target_error for rule in rules] == [0.7, 0.01]
    assert rules[0].threshold is not None
    assert rules[1].threshold is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target-error", "0"], "target_error must lie between 0 and 1"),
        (["--target-error", "0.1", "--delta", "1"], "delta must lie between 0 and 1"),
        (["--target-error", "0.1", "--plot", "x.pdf"], "plot must end in .png or .svg"),
    ],
)
def test_wrong_words_are_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    data = written(tmp_path / "h.jsonl", "test", 300, 360)
    assert cli.main(["guard", str(model), "--data", str(data), *words]) == 2
    assert said in capsys.readouterr().err


def test_questions_of_the_map_are_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = written(tmp_path / "h.jsonl", "calibration", 100, 200)
    assert cli.main(["guard", str(model), "--data", str(data), "--target-error", "0.1"]) == 2
    assert "was calibrated on this question; 50 of 100" in capsys.readouterr().err
