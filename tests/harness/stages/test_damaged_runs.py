"""A finished run whose files were cut, doubled, swapped or broken: told, named, never counted."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file, save_file

from cogcalib import cli, pipeline
from cogcalib.harness.config import parse_config
from cogcalib.harness.run_folder import RunFolder
from cogcalib.records import InputError

TEXT = """
name: small
seeds: [3]
methods: [base, sft, sft+platt]
tasks:
  train: atlas/country
  out_of_domain: [atlas/capital]
  limit: {train: 32, calibration: 40, test: 40}
train: {steps: 2, batch_size: 8, style_steps: 1}
report: {resamples: 20}
"""
SFT = "score/sft/seed-3/atlas-country"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    return pipeline.run(parse_config(TEXT), root, Console(quiet=True)).path


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "small"))


def go_on(run: Path) -> None:
    console = Console(file=io.StringIO())
    pipeline.run(parse_config(TEXT), run.parent, console, resume=True)


def base_predictions(run: Path) -> object:
    folder = RunFolder(run)
    return folder.read_predictions(folder.predictions("base", 3))


def lines(edit: Callable[[list[str]], list[str]]) -> Callable[[str], str]:
    return lambda text: "".join(edit(text.splitlines(keepends=True)))


def changed(**values: object) -> Callable[[str], str]:
    """The first row with other values."""
    return lines(lambda rows: [json.dumps({**json.loads(rows[0]), **values}) + "\n", *rows[1:]])


@pytest.mark.parametrize(
    ("file", "edit", "what"),
    [
        (f"{SFT}.test.jsonl", lines(lambda r: r[:20]), "20 rows for the 40 questions"),
        (f"{SFT}.test.jsonl", lines(lambda r: r[1:]), "39 rows .*the first that is missing"),
        (f"{SFT}.test.jsonl", lines(lambda r: r + r[:1]), "comes more than once"),
        (f"{SFT}.test.jsonl", lambda _: "", "there is no row"),
        (f"{SFT}.test.jsonl", lambda text: text[:-40], "row 40: no valid JSON"),
        (f"{SFT}.test.jsonl", changed(id="stranger"), "'stranger' answers no question"),
        (f"{SFT}.test.jsonl", changed(split="calibration"), "is of atlas/country, calibration"),
        (f"{SFT}.test.jsonl", changed(model="atlas (ls)"), "not of the method sft"),
        (f"{SFT}.test.jsonl", changed(confidence={"vocab": "0.9"}), "row 1: confidence must be"),
        (f"{SFT}.test.jsonl", changed(nll=10**400), "row 1: nll must be a number"),
        (f"{SFT}.test.jsonl", lines(lambda r: ["null\n", *r[1:]]), "row 1: must be an object"),
        (f"{SFT}.test.jsonl", lambda _: "[" * 100_000, "row 1: no valid JSON"),
        (f"{SFT}.calibration.jsonl", lines(lambda r: r[:10]), "10 rows for the 20 questions"),
        ("splits/test.jsonl", lines(lambda r: r[:10]), "test.jsonl: 10 questions, chosen were 40"),
    ],
)
def test_predictions_are_counted_whole_or_not_at_all(
    run: Path, file: str, edit: Callable[[str], str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / file).write_text(edit((run / file).read_text()))
    if not file.startswith("splits"):  # those are written anew when a run goes on
        shutil.rmtree(run / "recalibrate")  # else nothing would be fitted on the calibration file
        with pytest.raises(InputError, match=what) as told:
            go_on(run)
        assert "makes it again (cogcalib run: with --resume)" in str(told.value)
        assert not (run / "recalibrate").exists() or "calibration" not in file
    if "calibration" not in file:  # the page shows test predictions
        assert cli.main(["report", str(run)]) == 2
        assert file.rpartition("/")[2] in capsys.readouterr().err


def test_the_predictions_of_another_method_and_a_file_that_is_gone(run: Path) -> None:
    base, sft = run / "score/base/seed-3", run / "score/sft/seed-3"
    name = "atlas-country.test.jsonl"
    shutil.copy(sft / name, base / name)
    with pytest.raises(InputError, match="not of the method base"):
        go_on(run)
    (base / name).unlink()
    with pytest.raises(InputError, match=r"the file is missing; remove .*seed-3"):
        go_on(run)
    shutil.rmtree(base)
    go_on(run)
    assert len((base / name).read_text().splitlines()) == 40


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("probe/train.jsonl", "null\n"),
        ("probe/train.jsonl", '{"id": "x", "category": "known", "share_right": "all"}\n'),
        ("splits/manifest.json", "{"),
        ("tasks.json", "[" * 100_000),
        ("model.json", "caf\xe9"),
        ("code.json", "[]"),
        ("timings.json", ""),
        ("train/sft/seed-3/log.jsonl", "null\n"),
        ("train/sft/seed-3/log.jsonl", '{"step": 1, "share_known": "most"}\n'),
    ],
)
def test_a_broken_artifact_is_named_when_a_run_goes_on(run: Path, file: str, text: str) -> None:
    (run / file).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=file.rpartition("/")[2]):
        go_on(run)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("metrics.json", "[null]"),
        ("metrics.json", "[{"),
        ("record.json", "[]"),
        ("probe/train.jsonl", "null\n"),
        ("splits/manifest.json", '{"test": 3}'),
    ],
)
def test_a_broken_artifact_is_named_by_report(
    run: Path, file: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / file).write_text(text)
    assert cli.main(["report", str(run)]) == 2
    told = capsys.readouterr().err
    assert file.rpartition("/")[2] in told
    assert len(told.splitlines()) == 1


def test_a_metric_that_is_text_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads((run / "metrics.json").read_text())
    for key, value in (("accuracy", "high"), ("n", None), ("ece", 3), ("n", 20)):
        changed = [{**rows[0], key: value}, *rows[1:]]
        (run / "metrics.json").write_text(json.dumps(changed))
        assert cli.main(["report", str(run)]) == 2
        assert "metrics.json" in capsys.readouterr().err


def test_a_run_does_not_go_on_with_half_an_adapter(run: Path) -> None:
    file = run / "train/sft/seed-3/adapter_model.safetensors"
    weights = load_file(file)
    save_file({key: weights[key] for key in sorted(weights)[::2]}, file)
    shutil.rmtree(run / "score/sft")
    with pytest.raises(InputError, match="does not fit the model"):
        go_on(run)


@pytest.mark.parametrize(
    ("file", "read"),
    [
        ("train/sft/seed-3/adapter_model.safetensors", go_on),
        ("train/sft/seed-3/log.jsonl", go_on),
        ("splits/manifest.json", base_predictions),
        ("splits/test.jsonl", base_predictions),
    ],
)
def test_what_is_cut_off_is_told_with_one_remedy(
    run: Path, file: str, read: Callable[[Path], object]
) -> None:
    whole = (run / file).read_bytes()
    (run / file).write_bytes(whole[: len(whole) // 2])
    shutil.rmtree(run / "score/sft")
    with pytest.raises(InputError) as told:
        read(run)
    assert file.rpartition("/")[2] in str(told.value)
    assert len(re.findall(r"remove (it|the folder|/)", str(told.value))) == 1, told.value


def test_a_file_that_score_wrote_is_held_against_its_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    asked = ["--model", "atlas", "--task", "atlas/country", "--limit", "12"]
    assert cli.main(["score", *asked, "--output", str(rows)]) == 0
    assert cli.main(["report", str(rows)]) == 0
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:6]))
    capsys.readouterr()
    assert cli.main(["report", str(rows)]) == 2
    assert "6 rows of the split test" in capsys.readouterr().err
