"""Tables that look into models, and variants under each other, on one small model."""

from __future__ import annotations

import io
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from rich.console import Console
from small_world import small_world as small_world

from cogcalib.harness.reproduce import Cell, Preset, Table, make_plan
from cogcalib.harness.reproduce.cell import run_cell
from cogcalib.harness.reproduce.execute import PlanOutcome
from cogcalib.harness.reproduce.planned_cells import analysis_cells
from cogcalib.harness.reproduce.result_files import write_results
from cogcalib.harness.reproduce.table_figure import figure_of
from cogcalib.harness.run_folder import RunFolder
from cogcalib.jsonl import read_jsonl
from cogcalib.records import Prediction


def table(renderer: str, **settings: object) -> Table:
    values = {"methods": ("sft",), "where": "primary", "renderer": renderer, **settings}
    return Table(name=renderer, title="T", question="Q?", **values)  # type: ignore[arg-type]


def outcome_of(preset: Preset, root: Path, asked: Table) -> PlanOutcome:
    plan = make_plan(asked, preset, root, seeds=[0], tune_seeds=[0])
    resolved = {place.path: {name: name for name in place.methods} for place in plan.places}
    return PlanOutcome(plan, resolved)


@pytest.fixture(scope="module")
def root(small: Preset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (place,) = outcome_of(small, folder, table("detector")).plan.places
    console = Console(file=io.StringIO())
    for cell in (
        Cell(place, "prepare"),
        Cell(place, "train", "sft", 0, ("sft",)),
        *analysis_cells("detector", place, ["sft"], [0]),
        *analysis_cells("dynamics", place, ["sft"], [0]),
    ):
        run_cell(cell, console)
        assert not cell.missing()
    return folder


def results(outcome: PlanOutcome, folder: Path) -> tuple[str, dict[str, Any]]:
    written = write_results(outcome, folder, "cogcalib reproduce", "ece")
    assert [path.suffix for path in written] == [".md", ".json", ".svg"]
    page, record, figure = (path.read_text("utf-8") for path in written)
    assert f"]({written[2].name})" in page
    assert "<text" in figure, "text is drawn as outlines"
    again = figure_of(json.loads(record))
    assert again == figure, "a figure is not what its record draws"
    return page, json.loads(record)


def test_detector_page(small: Preset, root: Path, tmp_path: Path) -> None:
    page, record = results(outcome_of(small, root, table("detector")), tmp_path)
    assert "| SFT |" in page
    (row,) = record["analysis"]
    assert 0.5 < row["mean"]["auroc.nll"] <= 1
    assert 0.5 < row["mean"]["accuracy"] <= 1
    assert "deviation" not in row, "of one seed there is none"


def test_seeds_that_are_missing_are_told(small: Preset, root: Path, tmp_path: Path) -> None:
    for renderer in ("detector", "dynamics", "methods"):
        asked = table(renderer)
        plan = make_plan(asked, small, root, seeds=[0, 1], tune_seeds=[0])
        (place,) = plan.places
        page, _ = results(PlanOutcome(plan, {place.path: {"sft": "sft"}}), tmp_path / renderer)
        assert "| SFT (1 of 2 seeds)" in page


def test_dynamics_page(small: Preset, root: Path, tmp_path: Path) -> None:
    page, record = results(outcome_of(small, root, table("dynamics")), tmp_path)
    assert "| SFT, calibration, known | 100.0 / " in page
    assert all(row["step"] == [0, 1, 2, 3, 4] for row in record["analysis"])
    start = {(row["split"], row["group"]): row["accuracy"][0] for row in record["analysis"]}
    assert start == {
        (split, group): float(group == "known")
        for split in ("train", "calibration")
        for group in ("known", "unknown")
    }


def test_looking_at_a_training_does_not_disturb_it(small: Preset, root: Path) -> None:
    (place,) = outcome_of(small, root, table("dynamics")).plan.places
    path = RunFolder(place.path).analysis("dynamics", "sft", 0)
    assert not path.with_suffix("").exists(), "the model looked at is not kept"
    last = [
        row
        for row in json.loads(path.read_text("utf-8"))
        if (row["step"], row["split"]) == (4, "calibration")
    ]
    n = sum(row["n"] for row in last)
    confidence = sum(row["n"] * row["confidence"] for row in last) / n
    scored = read_jsonl(
        place.path / "score" / "sft" / "seed-0" / "atlas-country.calibration.jsonl", Prediction
    )
    assert n == len(scored)
    assert confidence == pytest.approx(fmean(row.confidence["options"] for row in scored), abs=1e-6)


def test_variants_stand_under_each_other(small: Preset, root: Path, tmp_path: Path) -> None:
    hot = {"about": "a higher rate", "config": {"train": {"learning_rate": 0.02}}}
    pairs = (("hot:sft", "sft"), ("hot:sft", "default:sft"), ("hot:ls", "sft"))
    asked = table("variants", variants={"default": {"about": ""}, "hot": hot})
    asked = asked.model_copy(update={"pairs": pairs})
    outcome = outcome_of(small, root, asked)
    place = outcome.plan.places[1]
    for cell in (Cell(place, "prepare"), Cell(place, "train", "sft", 0, ("sft",))):
        run_cell(cell, Console(file=io.StringIO()))
    page, record = results(outcome, tmp_path)
    assert "| small | default | SFT |" in page
    assert "| small | hot | SFT |" in page
    assert "confidence - accuracy" in page
    assert "- hot: a higher rate" in page
    assert [group["variant"] for group in record["results"]] == ["default", "hot"]
    assert all(group["in_domain"] for group in record["results"])
    (across,) = record["across"]
    assert [pair["rows"] for pair in across["pairs"]] == [list(names) for names in pairs[:2]]
    assert across["task"] == "atlas/country"
    assert "## small: atlas/capital, variants compared" in page
    nll = {group["variant"]: group["rows"][0]["mean"]["nll"] for group in record["results"]}
    for pair, names in zip(across["pairs"], pairs, strict=False):
        value, low, high = pair["difference"]["nll"]
        assert low <= value <= high
        assert value == pytest.approx(nll["hot"] - nll["default"], abs=2e-5) != 0
        shown = [line for line in page.splitlines() if line.startswith(f"| {' - '.join(names)} |")]
        assert [f"{value:+.3f} [" in line for line in shown] == [True, False]
