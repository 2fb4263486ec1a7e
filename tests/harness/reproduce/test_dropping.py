"""Trained weights are removed when, and only when, nothing planned still needs them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from small_world import small_world as small_world

from cogcalib import cli
from cogcalib.artifacts import read_json
from cogcalib.harness.reproduce import Cell, Plan, Preset, Table, make_plan
from cogcalib.harness.reproduce.cell import locked, run_cell
from cogcalib.harness.reproduce.dropping import Dropping
from cogcalib.harness.reproduce.estimate import most_at_once, timed_cells
from cogcalib.harness.reproduce.planned_cells import (
    baseline_cells,
    row_cells,
    trial_cells,
    weights_of,
)
from cogcalib.harness.run_folder import RunFolder
from cogcalib.harness.stages.dropped import MARK, drop_weights, were_dropped
from cogcalib.harness.tuning import grid

TABLE = Table(
    name="tiny",
    title="Tiny",
    question="Is it dropped?",
    methods=("base", "sft", "sft+ts", "ensemble", "cols-options"),
    tune="each",
    where="primary",
    best={"gated": {"among": ("cols-options",), "posthoc": ("ts",)}},  # type: ignore[dict-item]
)


@pytest.fixture(autouse=True)
def _two_alphas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "GRID", {"label_smoothing": (0.1, 0.4)})


@pytest.fixture
def plan(small: Preset, tmp_path: Path) -> Plan:
    return make_plan(TABLE, small, tmp_path, seeds=[0], tune_seeds=[0, 1])


def finish(cell: Cell) -> Cell:
    """Leave what a cell leaves; weights of a byte for each model that is not there."""
    for folder in weights_of(cell):
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder / "adapter_model.safetensors").write_bytes(b"w")
            (folder / "log.jsonl").write_text("{}")
    for path in cell._outputs():
        path.mkdir(parents=True, exist_ok=True)
    assert not cell.missing()
    return cell


def held(plan: Plan) -> set[str]:
    """Trainings whose weights are there, as ``sft/seed-0``."""
    found = plan.places[0].path.glob("train/*/*/*.safetensors")
    return {f"{path.parents[1].name}/{path.parent.name}" for path in found}


def test_weights_go_with_the_last_cell_that_needs_them(plan: Plan) -> None:
    (place,) = plan.places
    place.path.mkdir(parents=True)
    dropping = Dropping(plan)
    for cell in trial_cells(plan):
        dropping.after(finish(cell))
    # Those of another seed than the rows'; of the others each may be chosen.
    assert held(plan) == {f"{name}/seed-0" for name in
                          ("sft", "cols-options@0.1", "cols-options@0.4")}  # fmt: skip
    names = ["base", "sft", "sft+ts", "ensemble"]
    for cell in row_cells(place, names, [0]):
        dropping.after(finish(cell))
    assert {"sft/seed-0", "sft/seed-1000"} <= held(plan)  # the ensemble's members
    resolved = {name: name for name in names} | {"cols-options": "cols-options@0.4"}
    dropping.know({place.path: resolved}, best=False)
    assert "cols-options@0.1/seed-0" not in held(plan)
    for cell in row_cells(place, ["cols-options@0.4"], [0]):
        dropping.after(finish(cell))
    assert "cols-options@0.4/seed-0" in held(plan)  # it may be the best, which gets a temperature
    best = {"gated": "cols-options@0.4", "gated+ts": "cols-options@0.4+ts"}
    dropping.know({place.path: resolved | best}, best=True)
    assert held(plan) == {"sft/seed-0", "sft/seed-1000", "cols-options@0.4/seed-0"}
    for cell in row_cells(place, list(best.values()), [0]):
        dropping.after(finish(cell))
    assert held(plan) == {"sft/seed-0", "sft/seed-1000"}
    for cell in baseline_cells(place, names, [0]):
        dropping.after(finish(cell))
    assert held(plan) == set()
    folder = RunFolder(place.path).train("sft", 0)
    assert (folder / "log.jsonl").exists()
    assert read_json(folder / MARK, dict) == {"files": {"adapter_model.safetensors": 1}}
    # All of it still counts as done.
    assert not any(cell.missing() for cell in (*trial_cells(plan), *row_cells(place, names, [0])))


def test_weights_that_another_process_asks_stay(plan: Plan) -> None:
    (place,) = plan.places
    place.path.mkdir(parents=True)
    (cell,) = (each for each in trial_cells(plan) if (each.method, each.seed) == ("sft", 1))
    finish(cell)
    with locked(cell) as ours:
        assert ours
        Dropping(plan).after(cell)
    assert held(plan) == {"sft/seed-1"}
    Dropping(plan).after(cell)
    assert held(plan) == set()


def test_what_is_asked_again_is_trained_again(plan: Plan) -> None:
    (place,) = plan.places

    def run(method: str, *predicted: str, kind: str = "train") -> None:
        cell = Cell(place, kind, method, 0, predicted)  # type: ignore[arg-type]
        run_cell(cell, Console(file=io.StringIO()))
        assert not cell.missing()

    run_cell(Cell(place, "prepare"), Console(file=io.StringIO()))
    run("sft", "sft")
    folder = RunFolder(place.path)
    trained = folder.train("sft", 0)
    before = (trained / "adapter_model.safetensors").read_bytes()
    assert drop_weights(trained) == len(before)
    run("sft", "sft", "sft+platt")  # maps the predictions that are there
    assert were_dropped(trained)
    run("sft", "sft", "sft+ts")
    assert not were_dropped(trained)
    assert (trained / "adapter_model.safetensors").read_bytes() == before
    drop_weights(trained)
    run("ensemble", "ensemble", kind="baseline")
    assert (trained / "adapter_model.safetensors").read_bytes() == before


def test_the_plan_knows_how_much_there_is_at_once(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = timed_cells(plan)
    one = max(each.cost.disk for each in cells)
    whole = sum(each.cost.disk for each in cells)
    # SFT's and its other member for the ensemble, two alphas until one is chosen; and one for each
    # process of what is made meanwhile.
    assert most_at_once(plan, cells, 1) <= whole
    assert most_at_once(plan, cells, 3) == pytest.approx(most_at_once(plan, cells, 1) + 2 * one)
    words = ["reproduce", "main", "--model", "atlas", "--dry-run", "--limit-methods", "sft"]
    assert cli.main(words) == 0
    assert "GB of trained weights are kept" in capsys.readouterr().out
    assert cli.main([*words, "--json", str(tmp_path / "plan.json")]) == 0
    planned = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    assert {"prepare", "train"} <= {each["kind"] for each in planned}
    assert all(each["seconds"] > 0 for each in planned if each["to_do"])
    capsys.readouterr()
    assert cli.main([*words, "--drop-adapters"]) == 0
    assert "GB at once at most" in capsys.readouterr().out
