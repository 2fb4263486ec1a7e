"""From a tuning to the report of the tuned run: what was chosen is what is singled out."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from cogcalib.harness.config import Method, load_config, parse_config
from cogcalib.harness.report import Run, load_run
from cogcalib.harness.report.headline import headline
from cogcalib.harness.report.singled_out import single_out
from cogcalib.harness.report.summary import group_rows
from cogcalib.harness.run_folder import RunFolder
from cogcalib.harness.selection import trials_of_rows
from cogcalib.harness.tuning import grid, tune
from cogcalib.owned_folder import FolderError
from cogcalib.pipeline import run

SMALL = """
name: small
methods: [sft, cols-options, cols]
tasks: {train: atlas/country, limit: {train: 32, calibration: 48, test: 24}}
train: {steps: 8, batch_size: 8, style_steps: 2, threshold_every: 4}
report: {resamples: 10}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module", params=[pytest.param("ece", marks=pytest.mark.slow), "nll"])
def tuned(request: pytest.FixtureRequest, root: Path) -> Path:
    """The folder of a tuning; the run it is for stands in a folder of the rule's."""
    console = Console(file=io.StringIO())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "GRID", {"label_smoothing": (0.1, 0.6)})
        folder = tune(parse_config(SMALL), root, console, rule=request.param)
    run(load_config(folder / "tuned.yaml"), root / request.param, console)
    return folder


@pytest.fixture
def finished(tuned: Path) -> Run:
    rule = json.loads((tuned / "tune.json").read_text(encoding="utf-8"))["rule"]
    return load_run(tuned.parent / rule / "small-tuned")


def test_the_report_singles_out_what_the_tuning_chose(tuned: Path, finished: Run) -> None:
    record = json.loads((tuned / "tune.json").read_text(encoding="utf-8"))
    task = group_rows(finished.rows, in_domain=finished.trained_on)[0]
    found = single_out(finished, task)
    (support,) = record["supports"]
    assert found.method == support["chosen"] == record["recommended"]["chosen"]
    assert found.reason == record["recommended"]["reason"]
    assert found.candidates == 2
    sentences = headline(finished, task)
    assert sentences[0].startswith(f"{Method.parse(found.method).label} ")
    page = (finished.folder.path / "report.html").read_text(encoding="utf-8")
    assert "No CogCalib variant is singled out" not in page
    assert f"{Method.parse(found.method).label} was chosen out of 2 variants" in page


def test_the_trials_are_the_rows_of_the_run(tuned: Path, finished: Run) -> None:
    record = json.loads((tuned / "tune.json").read_text(encoding="utf-8"))
    trials = {(each["method"], each["seed"]): each for each in record["trials"]}
    made = trials_of_rows(finished.rows)
    assert len(made) == 3
    for trial in made:
        expected = trials[trial.method, trial.seed]
        assert (trial.accuracy, dict(trial.ece)) == (expected["accuracy"], expected["ece"])
        assert trial.nll == pytest.approx(expected["nll"], rel=1e-12)


def test_a_damaged_trial_is_named_with_a_remedy_that_tune_has(tmp_path: Path) -> None:
    config = SMALL.replace("cols-options, cols", "cols")
    console = Console(file=io.StringIO())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "GRID", {"label_smoothing": (0.1,)})
        folder = RunFolder(tune(parse_config(config), tmp_path, console))
        (file,) = folder.tune("sft", 0).glob("*.jsonl")
        text = file.read_text(encoding="utf-8")
        for damage in (lambda: file.unlink(), lambda: file.write_text(text[:-40])):
            damage()
            with pytest.raises(FolderError, match=f"remove {file.parent}, and the same command"):
                tune(parse_config(config), tmp_path, console)
        shutil.rmtree(file.parent)
        tune(parse_config(config), tmp_path, console)
    assert file.read_text(encoding="utf-8") == text
