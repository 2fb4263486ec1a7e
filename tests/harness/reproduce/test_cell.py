"""What cells rest on: the weights a folder was prepared with, labels that are there."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file, save_file

from cogcalib.harness.config import parse_config
from cogcalib.harness.reproduce import Cell, Place
from cogcalib.harness.reproduce import cell as cells
from cogcalib.harness.reproduce.planned_cells import row_cells
from cogcalib.harness.run_folder import RunFolder
from cogcalib.modeling import resolve_model
from cogcalib.records import InputError


def place(root: Path, model: str = "atlas") -> Place:
    limit = "limit: {train: 12, calibration: 16, test: 8}"
    text = (
        f"name: x\nmethods: [base]\nmodel: {{path: {model}}}\n"
        "train: {steps: 2, batch_size: 4, style_steps: 1}\n"
        f"tasks: {{train: atlas/country, {limit}}}\n"
    )
    return Place("small", "country", "default", root / "country", parse_config(text), ())


def run(cell: Cell) -> None:
    cells.run_cell(cell, Console(file=io.StringIO()))


def test_weights_that_were_replaced_are_noticed_by_the_next_cell(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(resolve_model("atlas"), model)
    here = place(tmp_path / "runs", str(model))
    run(Cell(here, "prepare"))
    (file,) = model.glob("*.safetensors")
    weights = load_file(file)
    name = next(iter(weights))
    save_file(weights | {name: weights[name] + 1}, file, metadata={"format": "pt"})
    cells._fingerprint.cache_clear()  # another process would know nothing of the first ones
    (base,) = row_cells(here, ["base"], [0])
    with pytest.raises(InputError, match="begun with other data or another model"):
        run(base)
    assert base.missing()


def test_labels_that_were_removed_are_made_again(tmp_path: Path) -> None:
    cell = Cell(place(tmp_path), "prepare")
    run(cell)
    folder = RunFolder(cell.place.path)
    before = folder.read_probe()
    folder.probe.unlink()
    assert cell.missing()
    run(cell)
    assert folder.read_probe() == before
