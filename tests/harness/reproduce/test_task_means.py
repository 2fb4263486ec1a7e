"""Means over tasks equal those computed from the rows, and reductions compare like with like."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from small_world import small_world as small_world

from cogcalib.harness.config import parse_config
from cogcalib.harness.report.resampled import Resampled
from cogcalib.harness.reproduce import (
    ExecutionOptions,
    Preset,
    load_preset,
    load_table,
    make_plan,
    reproduce,
)
from cogcalib.harness.reproduce.plan import Place
from cogcalib.harness.reproduce.planned_cells import trial_cells
from cogcalib.harness.reproduce.result_files import write_results
from cogcalib.harness.reproduce.table_rows import MethodCost, RowGroup, TableRow
from cogcalib.harness.reproduce.task_means import means_page, task_means
from cogcalib.harness.tuning import grid
from cogcalib.records import InputError

METRICS = ("accuracy", "nll", "brier", "aurc")
CHOICE, SPOKEN = ("options", "vocab"), ("mean", "joint")
LLAMA = "meta-llama/Meta-Llama-3-8B"


def table_row(name: str, definitions: tuple[str, str], seed: int, seeds: int = 2) -> TableRow:
    drawn = np.random.default_rng(seed)
    names = [*METRICS, *(f"ece.{each}" for each in definitions)]
    values = {metric: tuple(drawn.uniform(0.1, 0.9, seeds).tolist()) for metric in names}
    nothing = Resampled((), (), {}, {})
    return TableRow(name, name, tuple(range(seeds)), values, nothing, MethodCost(1.0), chosen=False)


def group(root: Path, task: str, *rows: TableRow, in_domain: bool = True) -> RowGroup:
    place = Place("m", task, "default", root / task, parse_config("name: x"), (), tested_on=(task,))
    primary = "options" if "ece.options" in rows[0].values else "mean"
    return RowGroup(place, task, in_domain, 100, primary, rows)


@pytest.fixture
def groups(tmp_path: Path) -> list[RowGroup]:
    def rows(first: int, *names: str, of: tuple[str, str] = CHOICE) -> list[TableRow]:
        return [table_row(name, of, first + number) for number, name in enumerate(names)]

    return [
        group(tmp_path, "one", *rows(0, "sft", "cols", "ensemble")),
        group(tmp_path, "elsewhere", *rows(50, "sft", "cols"), in_domain=False),
        group(tmp_path, "two", *rows(10, "sft", "cols", "ensemble")),
        group(tmp_path, "three", *rows(20, "sft", "cols")),
        group(tmp_path, "spoken", *rows(30, "sft", "cols", of=SPOKEN)),
    ]


def mean_of(groups: list[RowGroup], tasks: list[str], name: str, metric: str) -> float:
    rows = [g.find(name) for g in groups if g.task in tasks]
    return fmean(fmean(row.values[metric]) for row in rows if row)


def test_a_mean_is_that_of_its_rows(groups: list[RowGroup]) -> None:
    choice, spoken = task_means(groups)
    assert [row.name for row in choice] == ["sft", "cols", "ensemble"]
    for row in choice:
        tasks = ["one", "two"] if row.name == "ensemble" else ["one", "two", "three"]
        assert list(row.tasks) == tasks
        for metric in (*METRICS, "ece.options", "ece.vocab"):
            assert row.mean(metric) == pytest.approx(mean_of(groups, tasks, row.name, metric))
    assert {row.tasks for row in spoken} == {("spoken",)}
    assert not any("ece.options" in row.values for row in spoken)


def test_the_deviation_is_of_the_means_between_seeds(groups: list[RowGroup]) -> None:
    cols = task_means(groups)[0][1]
    rows = [row for g in groups[:4] if g.in_domain and (row := g.find("cols"))]
    by_seed = [fmean(row.values["nll"][seed] for row in rows) for seed in range(2)]
    assert cols.deviation("nll") == pytest.approx(np.std(by_seed, ddof=1))


def test_a_reduction_is_of_the_tasks_that_both_have(groups: list[RowGroup]) -> None:
    sft, cols, ensemble = task_means(groups)[0]
    assert sft.reductions == {}
    for row, tasks in ((cols, ["one", "two", "three"]), (ensemble, ["one", "two"])):
        for name in CHOICE:
            own, other = (mean_of(groups, tasks, each, f"ece.{name}") for each in (row.name, "sft"))
            assert row.reductions[name] == pytest.approx(1 - own / other)


def test_the_page_prints_them(groups: list[RowGroup]) -> None:
    text = "\n".join(means_page(groups))
    cols = task_means(groups)[0][1]
    assert "## m: mean over one, two, three" in text
    assert "## m: mean over spoken" in text
    assert "Ensemble (without 1 of them)" in text
    (line,) = (line for line in text.split("## m")[1].splitlines() if line.startswith("| CoLS |"))
    assert f"| {100 * cols.mean('ece.options'):.1f} ± " in line
    assert line.endswith(
        " | ".join(f"{100 * cols.reductions[name]:+.0f}" for name in CHOICE) + " |"
    )


def test_a_mean_over_rows_that_lack_seeds_says_so(groups: list[RowGroup]) -> None:
    first, *others = groups
    sft, *rest = first.rows
    fewer = replace(first, rows=(replace(sft, missing=1), *rest))
    page = "\n".join(means_page([fewer, *others]))
    assert "| SFT (2 of 3 seeds) |" in page
    assert "| CoLS |" in page


def test_alphas_of_the_papers_table_are_chosen_on_its_first_task(tmp_path: Path) -> None:
    table = load_table("paper")
    plan = make_plan(table, load_preset(LLAMA), tmp_path, seeds=range(table.seeds), tune_seeds=[0])
    assert [place.task for place in plan.places] == list(table.tasks)
    assert len(plan.places) == 7
    assert plan.seeds == (0, 1, 2)
    assert {cell.place.task for cell in trial_cells(plan)} == {"openbookqa"}
    assert len(trial_cells(plan)) == 1 + 3 * 4
    assert {place.tuned_at for place in plan.places} == {plan.places[0].path}


def test_a_first_task_without_options_cannot_choose_for_those_with(
    small: Preset, tmp_path: Path
) -> None:
    tasks = dict(reversed(small.tasks.items()))
    with pytest.raises(InputError, match="as country has, got the open-ended country-open"):
        make_plan(load_table("paper"), small.model_copy(update={"tasks": tasks}), tmp_path,
                  seeds=[0], tune_seeds=[0])  # fmt: skip


@pytest.mark.usefixtures("cells_in_process")
def test_the_table_is_written_with_its_means(
    small: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "GRID", {"label_smoothing": (0.1, 0.4)})
    limit = {"train": 16, "calibration": 24, "test": 24}
    tasks = {
        name: {"tasks": {"train": "atlas/country", "limit": limit, "seed": seed}}
        for seed, name in enumerate(("these", "those"))
    }
    plan = make_plan(load_table("paper"), small.model_copy(update={"tasks": tasks}), tmp_path / "r",
                     seeds=[0], tune_seeds=[0], limit_methods=["sft", "cols"])  # fmt: skip
    outcome = reproduce(plan, ExecutionOptions(), Console(file=io.StringIO()))
    assert outcome.failures == []
    page, record_file, *_ = write_results(outcome, tmp_path / "out", "made up", "nll")
    record: dict[str, Any] = json.loads(record_file.read_text(encoding="utf-8"))
    means = {each["row"]: each for each in record["means"]}
    assert means["cols"]["tasks"] == ["atlas/country", "atlas/country"]
    for name, mean in means.items():
        rows = [row for each in record["results"] for row in each["rows"] if row["row"] == name]
        assert len(rows) == 2
        for metric, value in mean["mean"].items():
            assert value == pytest.approx(fmean(row["mean"][metric] for row in rows), abs=1e-5)
    for name, share in means["cols"]["reduction"].items():
        own, other = (means[each]["mean"][f"ece.{name}"] for each in ("cols", "sft"))
        assert share == pytest.approx(1 - own / other, abs=1e-3)
    assert "mean over atlas/country, atlas/country" in page.read_text(encoding="utf-8")
    chosen = {
        row["method"] for each in record["results"] for row in each["rows"] if row["row"] == "cols"
    }
    assert len(chosen) == 1
