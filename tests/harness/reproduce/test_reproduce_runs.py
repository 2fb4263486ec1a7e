"""A small table from end to end: what it leaves, and what an interruption costs."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from cells_in_process import run_in_process
from rich.console import Console

from cogcalib import cli
from cogcalib.artifacts import read_json
from cogcalib.harness.reproduce import (
    ExecutionOptions,
    Plan,
    Preset,
    Table,
    load_table,
    make_plan,
    reproduce,
)
from cogcalib.harness.reproduce.estimate import estimates, show_plan
from cogcalib.harness.reproduce.execute import PlanOutcome
from cogcalib.harness.reproduce.planned_cells import prepare_cells
from cogcalib.harness.reproduce.result_files import check_output, write_results
from cogcalib.harness.reproduce.workers import Workers
from cogcalib.harness.tuning import grid
from cogcalib.records import InputError, write_json

TABLE = Table(
    name="tiny",
    title="Tiny",
    question="Does it run?",
    methods=("base", "sft", "sft+ts", "sft+isotonic", "ensemble", "cols-options"),
    tune="each",
    where="primary",
    best={"gated": {"among": ("cols-options",), "posthoc": ("ts",)}},  # type: ignore[dict-item]
    against=("sft", "sft+ts"),
    pairs=(("gated+ts", "sft+ts"),),
    cited=(("gated+ts", "sft+ts"),),
)
STRENGTHS = {"label_smoothing": (0.1, 0.4)}


@pytest.fixture(autouse=True)
def _two_strengths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "GRID", STRENGTHS)


def lay_out(preset: Preset, root: Path) -> Plan:
    return make_plan(TABLE, preset, root, seeds=[0], tune_seeds=[0])


def run(plan: Plan, jobs: int = 1) -> tuple[PlanOutcome, str]:
    shown = io.StringIO()
    outcome = reproduce(plan, ExecutionOptions(jobs=jobs), Console(file=shown, width=120))
    return outcome, shown.getvalue()


@pytest.fixture(scope="module")
def finished(small: Preset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "GRID", STRENGTHS)
        run_in_process(patch)
        outcome, _ = run(lay_out(small, root))
    assert outcome.failures == []
    assert outcome.left_out == []
    return root


def files(root: Path) -> dict[Path, int]:
    """Everything of the stages -> when it was written."""
    stages = ("train", "score", "recalibrate", "tune", "probe")
    found = (p for stage in stages for p in root.glob(f"small/*/{stage}/**/*") if p.is_file())
    return {path.relative_to(root): path.stat().st_mtime_ns for path in found}


def written(outcome: PlanOutcome, folder: Path) -> list[dict[str, Any]]:
    """The rows of the record, each with its task, without what they cost."""
    write_results(outcome, folder, "cogcalib reproduce tiny", "nll")
    record = json.loads((folder / "tiny-small.json").read_text("utf-8"))
    return [
        {"task": group["task"], **row, "cost": None}
        for group in record["results"]
        for row in group["rows"]
    ]


def test_weights_are_dropped_where_that_is_asked_for(
    small: Preset, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "runs")
    plan = lay_out(small, tmp_path / "runs")
    before = written(run(plan)[0], tmp_path)
    weights = list((tmp_path / "runs").glob("small/*/train/**/*.safetensors"))
    assert weights  # never by default
    options = ExecutionOptions(drop_adapters=True)
    outcome = reproduce(plan, options, Console(file=io.StringIO()))
    assert outcome.failures == []
    assert not any(path.exists() for path in weights)
    assert written(outcome, tmp_path) == before
    assert all(each.missing == 0 for each in estimates(plan))


def test_a_dry_run_trains_nothing(small: Preset, tmp_path: Path) -> None:
    shown = io.StringIO()
    show_plan(lay_out(small, tmp_path / "runs"), 2, Console(file=shown, width=120))
    assert not (tmp_path / "runs").exists()
    assert "nothing was run" in shown.getvalue()
    assert "one core, 1e+10 FLOPs/s" in shown.getvalue()


def test_a_dry_run_counts_what_is_left_and_takes_measured_times(
    small: Preset, finished: Path
) -> None:
    for each in estimates(lay_out(small, finished)):
        assert each.source.startswith("measured"), each
        assert each.missing == 0, each


def test_files_of_a_table(small: Preset, finished: Path, tmp_path: Path) -> None:
    outcome, _ = run(lay_out(small, finished))
    rows = written(outcome, tmp_path)
    names = {"base", "sft", "sft+ts", "sft+isotonic", "ensemble", "cols-options", "gated",
             "gated+ts"}  # fmt: skip
    assert {(row["row"], row["task"]) for row in rows} == {
        (name, task) for name in names for task in ("atlas/country", "atlas/capital")
    }
    record = json.loads((tmp_path / "tiny-small.json").read_text(encoding="utf-8"))
    assert record["command"] == "cogcalib reproduce tiny"
    assert {"versions", "code", "seeds", "models", "hardware"} <= record.keys()
    manifest = (finished / "small/country/splits/manifest.json").read_bytes()
    assert record["data"] == {"small/country": hashlib.sha256(manifest).hexdigest()}
    (commit, cells) = next(iter(record["code_of_cells"].items()))
    assert commit.startswith(str(record["code"]["commit"]))
    assert cells == len(list((finished / "small/country/cells").glob("[!s]*.json"))) - len(
        list((finished / "small/country/cells").glob("training-*.json"))
    )
    (chosen,) = record["tuning"]["choices"]["small/country"].values()
    assert chosen in ("cols-options@0.1", "cols-options@0.4")
    (group, elsewhere) = record["results"]
    (ensemble,) = (row for row in group["rows"] if row["row"] == "ensemble")
    assert ensemble["cost"]["passes"] == 2
    assert ensemble["cost"]["training"] == pytest.approx(2, rel=0.8)
    assert ensemble["cost"]["extra_parameters"] > 0
    assert set(ensemble["against"]) == {"sft"}
    (gated,) = (row for row in elsewhere["rows"] if row["row"] == "gated")
    assert set(gated["against"]) == {"sft", "sft+ts"}
    (ts, isotonic) = (
        next(row for row in group["rows"] if row["row"] == f"sft+{name}")
        for name in ("ts", "isotonic")
    )
    assert ts["cost"]["extra_parameters"] == 1
    assert isotonic["cost"]["extra_parameters"] > 1
    assert "nll" in ts["mean"]
    assert "nll" not in isotonic["mean"]  # a map of confidence says nothing of the likelihood
    (pair,) = group["pairs"]
    assert pair["rows"] == ["gated+ts", "sft+ts"]
    by_name = {row["row"]: row["mean"] for row in group["rows"]}
    expected = by_name["gated+ts"]["nll"] - by_name["sft+ts"]["nll"]
    assert pair["difference"]["nll"][0] == pytest.approx(expected, abs=2e-5)
    page = (tmp_path / "tiny-small.md").read_text(encoding="utf-8")
    assert "Alphas, and rows called chosen, were chosen by the lowest NLL at SFT's accuracy" in page
    assert "One seed: stars and bold figures say nothing of other trainings." in page
    assert "Fewer than 500 questions, so that an ECE is mostly noise: atlas/capital" in page
    assert "ECE options % (15 bins, width, n = 24) | floor % | ECE vocab %" in page
    assert f"gated, chosen: {chosen.replace('cols', 'CoLS')} + TS" in page
    # On two tasks its figures, its use and its difference to SFT + TS.
    assert page.count("\n| SFT |") == 6
    assert page.index("## Comparisons settled beforehand") < page.index("## small")
    assert page.count("SFT against the base model") == 2
    assert record["tuning"]["rule"] == "nll"
    assert record["table"]["cited"] == [["gated+ts", "sft+ts"]]
    assert record["table"]["endpoint"] == ["nll", "brier"]
    (claim,) = record["claims"]
    assert claim["rows"] == ["gated+ts", "sft+ts"]
    assert claim["difference"]["nll"][:3] == pair["difference"]["nll"]
    assert 0 < claim["difference"]["nll"][3] <= 1  # one comparison: Holm changes nothing
    assert list(pair["difference"]) == ["accuracy", "ece.options", "ece.vocab", "nll"]
    (sft,) = (row for row in group["rows"] if row["row"] == "sft")
    assert list(sft["mean"])[:3] == ["accuracy", "ece.options", "ece.vocab"]
    assert sft["risk"][-1] == pytest.approx(1 - sft["mean"]["accuracy"], abs=2e-5)
    assert len(sft["risk"]) == 10
    assert sft["floor"]["options"][0] < sft["floor"]["options"][1]
    assert set(sft["answered"]) == {"coverage_at_90", "coverage_at_95"}
    assert sft["known"] == [None, None]
    assert "failing" not in sft
    assert isinstance(ts["failing"], list)
    assert (tmp_path / "tiny-small.svg").read_text("utf-8").startswith("<svg")


@pytest.mark.usefixtures("cells_in_process")
def test_an_interruption_costs_the_cells_it_hit(
    small: Preset, finished: Path, tmp_path: Path
) -> None:
    root = tmp_path / "runs"
    shutil.copytree(finished, root)
    place = root / "small" / "country"
    # Killed while it predicted with the ensemble, and while it trained one member of it.
    for stage, name in (("score/ensemble", "seed-0"), ("train/sft", "seed-1000")):
        shutil.rmtree(place / stage / name)
        (place / stage / f"{name}.partial").mkdir()
    before = files(root)
    outcome, shown = run(lay_out(small, root))
    assert outcome.failures == []
    assert "✓ 1/1 small/country: member-sft-seed-1000" in shown
    assert "✓ 1/1 small/country: baseline-ensemble-seed-0" in shown
    assert shown.count("✓") == 2
    after = files(root)
    assert {path: after[path] for path in before} == before
    assert written(outcome, tmp_path / "a") == written(
        run(lay_out(small, finished))[0], tmp_path / "b"
    )


@pytest.mark.slow
def test_two_jobs_give_the_rows_of_one(small: Preset, finished: Path, tmp_path: Path) -> None:
    outcome, _ = run(lay_out(small, tmp_path / "runs"), jobs=2)
    assert outcome.failures == []
    alone, _ = run(lay_out(small, finished))
    assert written(outcome, tmp_path / "two") == written(alone, tmp_path / "one")


def test_a_broken_cell_does_not_stop_the_others(
    small: Preset, finished: Path, tmp_path: Path
) -> None:
    """In processes of their own, as users run them."""
    root = tmp_path / "runs"
    shutil.copytree(finished, root)
    place = root / "small" / "country"
    shutil.rmtree(place / "train/sft/seed-0")
    (place / "train/sft/seed-0").mkdir()  # no adapter in it
    for path in ("score/sft", "recalibrate/sft+isotonic", "score/base", "tune/cols-options@0.4"):
        shutil.rmtree(place / path)
    outcome, shown = run(lay_out(small, root))
    messages = [failure.message for failure in outcome.failures]
    assert {failure.cell.method for failure in outcome.failures} == {"sft"}, messages
    assert "no adapter" in outcome.failures[0].message.replace("\n", " ")
    assert "✓" in next(line for line in shown.splitlines() if "train-base-seed-0" in line)
    assert (place / "tune" / "cols-options@0.4" / "seed-0").is_dir()
    assert {row["row"] for row in written(outcome, tmp_path)} >= {"base", "cols-options"}
    page = (tmp_path / "tiny-small.md").read_text(encoding="utf-8")
    assert "small/country: train-sft-seed-0 failed" in page


def test_a_process_that_was_killed_is_told_from_one_that_failed(
    small: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = tmp_path / "python"
    killed.write_text("#!/bin/sh\nread line\nkill -9 $$\n", encoding="utf-8")
    killed.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killed))
    (cell, *_) = prepare_cells(lay_out(small, tmp_path / "runs"))
    with Workers(1, tmp_path / "logs") as workers:
        (failure,) = workers.run([cell], lambda *told: None)
    assert failure.message == "killed by signal 9 (9: out of memory?)"


def test_a_page_speaks_of_a_search_only_where_there_was_one(
    small: Preset, finished: Path, tmp_path: Path
) -> None:
    given = TABLE.model_copy(update={"tune": "no", "methods": ("base", "sft"), "best": {}})
    for table, searched in ((TABLE, True), (given, False)):
        plan = make_plan(table, small, finished, seeds=[0], tune_seeds=[0])
        outcome, _ = run(plan)
        write_results(outcome, tmp_path, "cogcalib reproduce tiny", "nll")
        page = (tmp_path / "tiny-small.md").read_text(encoding="utf-8")
        assert ("An alpha after @ was chosen" in page) is searched


def test_rows_for_multiple_choice_are_said_to_be_absent(
    small: Preset, finished: Path, tmp_path: Path
) -> None:
    table = TABLE.model_copy(update={"where": "all", "methods": ("sft", "mc_dropout"), "best": {}})
    plan = make_plan(table, small, tmp_path / "runs", seeds=[0], tune_seeds=[0])
    write_results(PlanOutcome(plan), tmp_path, "cogcalib reproduce tiny", "nll")
    page = (tmp_path / "tiny-small.md").read_text(encoding="utf-8")
    assert "- small/country-open: mc_dropout, for multiple choice only" in page


@pytest.mark.usefixtures("cells_in_process")
def test_a_folder_of_another_configuration_is_refused(
    small: Preset, finished: Path, tmp_path: Path
) -> None:
    place = tmp_path / "small" / "country"
    place.mkdir(parents=True)
    text = (finished / "small/country/config.yaml").read_text(encoding="utf-8")
    (place / "config.yaml").write_text(text.replace("steps: 4", "steps: 5"), encoding="utf-8")
    with pytest.raises(InputError, match="different configuration"):
        run(lay_out(small, tmp_path))


def test_a_fuller_table_is_not_overwritten(small: Preset, finished: Path, tmp_path: Path) -> None:
    written(run(lay_out(small, finished))[0], tmp_path)
    check_output(lay_out(small, finished), tmp_path, "nll")
    fewer = make_plan(
        TABLE, small, finished, seeds=[0], tune_seeds=[0], limit_methods=["sft", "sft+ts"]
    )
    with pytest.raises(InputError, match=r"holds base, cols-options, .* name another --output"):
        check_output(fewer, tmp_path, "nll")
    others = make_plan(TABLE, small, finished, seeds=[1], tune_seeds=[0])
    with pytest.raises(InputError, match="holds seed 0, which this would drop"):
        check_output(others, tmp_path, "nll")
    check_output(fewer, tmp_path / "elsewhere", "nll")
    record = tmp_path / f"{TABLE.name}-small.json"
    held = read_json(record, dict)
    write_json(record, held | {"results": [{"trained_on": "atlas/capital", "rows": []}]})
    with pytest.raises(InputError, match="holds the task atlas/capital, which this would drop"):
        check_output(lay_out(small, finished), tmp_path, "nll")
    for odd in ({"results": 5}, {"results": [{}]}, {"seeds": 3}, {"tuning": []}):
        write_json(record, odd)
        with pytest.raises(InputError, match=r"holds no table .*; name another --output, or rem"):
            check_output(lay_out(small, finished), tmp_path, "nll")
    write_json(record, held)
    with pytest.raises(InputError, match="chosen by the rule nll, not ece"):
        check_output(lay_out(small, finished), tmp_path, "ece")


@pytest.mark.usefixtures("cells_in_process")
def test_data_that_are_not_there_are_an_input_error(
    small: Preset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["reproduce", "main", "--model", "atlas", "--runs", str(tmp_path / "runs")]
    words += ["--output", str(tmp_path / "out")]
    assert cli.main([*words, "--data-dir", str(tmp_path / "nowhere")]) == 2
    assert "--data-dir must be an existing folder" in capsys.readouterr().err
    (tmp_path / "file").touch()
    for name in ("runs", "output"):
        assert cli.main([*words, f"--{name}", str(tmp_path / "file")]) == 2
        assert f"--{name} must be a folder, got the file" in capsys.readouterr().err
    tasks = {"boolq": {"tasks": {"train": "boolq"}}}
    elsewhere = small.model_copy(update={"tasks": tasks})
    table = TABLE.model_copy(update={"methods": ("sft",), "best": {}})
    plan = make_plan(table, elsewhere, tmp_path / "runs", seeds=[0], tune_seeds=[0])
    settings = ExecutionOptions(data_dir=tmp_path)
    with pytest.raises(InputError, match=r"no run folder could be prepared: .*boolq"):
        reproduce(plan, settings, Console(file=io.StringIO()))


def test_a_plan_of_dynamics_counts_its_trainings(small: Preset, tmp_path: Path) -> None:
    plan = make_plan(load_table("dynamics"), small, tmp_path, seeds=[0, 1], tune_seeds=[0])
    (found,) = [each for each in estimates(plan) if each.kind == "dynamics"]
    assert (found.cells, found.missing) == (8, 8)


def test_a_plan_that_trains_every_weight_says_how_much_that_is(
    small: Preset, tmp_path: Path
) -> None:
    shown = io.StringIO()
    plan = make_plan(load_table("full-finetune"), small, tmp_path, seeds=[0], tune_seeds=[0])
    show_plan(plan, 1, Console(file=shown, width=200))
    assert "every weight is trained in one process: 0.0 GB" in shown.getvalue()
