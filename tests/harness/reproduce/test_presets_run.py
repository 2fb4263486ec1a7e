"""The presets of the paper's models, their whole path short of the weights.

Everything is as shipped but the weights, which are those of a tiny random model of the same
architecture and kind of tokenizer, the number of steps and the size of the data.
"""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import pytest
from paper_models import save
from rich.console import Console
from small_world import small_world as small_world

from cogcalib.harness.reproduce import (
    Cell,
    Place,
    Preset,
    Table,
    load_preset,
    load_table,
    make_plan,
)
from cogcalib.harness.reproduce.cell import run_cell
from cogcalib.harness.reproduce.definitions import merge
from cogcalib.harness.reproduce.kept_rows import read_rows
from cogcalib.harness.reproduce.planned_cells import baseline_cells, row_cells
from cogcalib.harness.stages import open_folder
from cogcalib.tasks import load_task

PAPER = ("meta-llama/Meta-Llama-3-8B", "meta-llama/Llama-2-13b-hf", "mistralai/Mistral-7B-v0.1",
         "Qwen/Qwen2.5-7B")  # fmt: skip
ROWS = ["base", "sft", "sft+ts", "mc_dropout", "cols@0.1", "coecp-options-auto"]
TOGETHER = ["ensemble", *(["laplace"] if importlib.util.find_spec("laplace") else [])]
SHORT = {
    "train": {"steps": 4, "style_steps": 2, "save_every": 2, "threshold_every": 1},
    "baselines": {"members": 2, "passes": 2},
}


def shrunk(name: str, model: Path, tasks: dict[str, object]) -> Preset:
    """A shipped preset with other weights, fewer steps and one task."""
    preset = load_preset(name)
    config = merge(preset.config, SHORT, {"model": {"path": str(model)}})
    limit = {"train": 12, "calibration": 12, "test": 12}
    return preset.model_copy(
        update={"config": config, "tasks": {"only": {"tasks": {**tasks, "limit": limit}}}}
    )


def run_rows(preset: Preset, table: Table, root: Path, data_dir: Path | None = None) -> Place:
    (place, *_) = make_plan(table, preset, root, seeds=[0], tune_seeds=[0]).places
    console = Console(file=io.StringIO())
    names = [*ROWS, *TOGETHER]
    cells = [Cell(place, "prepare"), *row_cells(place, names, [0])]
    for cell in [*cells, *baseline_cells(place, names, [0])]:
        run_cell(cell, console, data_dir)
    return place


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if place else [])
        for place, name in enumerate(PAPER)
    ],
)
def test_a_preset_runs_on_its_architecture(name: str, tmp_path: Path) -> None:
    questions = load_task("atlas/country").splits["train"][:200]
    corpus = [f"{q.prompt}\nA. B. C. D.\nAnswer: {q.answer} {q.answer_text}" for q in questions]
    model = save(name, corpus, tmp_path)
    tasks = {"train": "atlas/country", "out_of_domain": ["atlas/capital"]}
    place = run_rows(shrunk(name, model, tasks), load_table("main"), tmp_path / "runs")
    assert place.config.model.dtype == "bfloat16"
    assert place.path == tmp_path / "runs" / name.rpartition("/")[2] / "only"
    folder = open_folder(place.config, place.path, resume=True)
    assert place.config.baselines.laplace == "last"
    for method in [*ROWS, *TOGETHER]:
        rows = read_rows(folder, method, 0)
        assert {(row["task"], row["split"]) for row in rows} == {
            ("atlas/country", "calibration"),
            ("atlas/country", "test"),
            ("atlas/capital", "test"),
        }
        assert all(0 <= row["ece"]["options"]["value"] <= 1 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPER)
def test_a_preset_runs_on_the_papers_task(name: str, tmp_path: Path, shared_data: Path) -> None:
    questions = load_task("openbookqa", shared_data).splits["train"][:200]
    corpus = [f"{q.prompt}\nA. B. C. D.\nAnswer: {q.answer} {q.answer_text}" for q in questions]
    model = save(name, corpus, tmp_path)
    tasks = {"train": "openbookqa", "out_of_domain": ["mmlu/business"]}
    preset = shrunk(name, model, tasks)
    place = run_rows(preset, load_table("main"), tmp_path / "runs", shared_data)
    folder = open_folder(place.config, place.path, resume=True)
    assert {row["task"] for row in read_rows(folder, "cols@0.1", 0)} == {
        "openbookqa",
        "mmlu/business",
    }
