"""What is loaded, asked and probed in a table is counted: none of it happens twice."""

from __future__ import annotations

import importlib
import io
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cogcalib.harness import stages
from cogcalib.harness.config import Config, Method, parse_config
from cogcalib.harness.progress import StageProgress
from cogcalib.harness.reproduce import Cell, Place
from cogcalib.harness.reproduce.cell import run_cell
from cogcalib.harness.reproduce.planned_cells import row_cells
from cogcalib.harness.run_folder import RunFolder
from cogcalib.harness.stages.context import THRESHOLD
from cogcalib.records import InputError

ASKED = "cogcalib.harness.stages.asked_models"
SCORED = "cogcalib.harness.stages.score"
LIMIT = "limit: {train: 12, calibration: 16, test: 8}"
TEXT = (
    "name: x\nmethods: [base]\nmodel: {path: atlas}\n"
    "train: {steps: 2, batch_size: 4, style_steps: 1}\nbaselines: {members: 2}\n"
    f"tasks: {{train: atlas/country, out_of_domain: [atlas/capital], {LIMIT}}}\n"
)


def config(*overrides: str) -> Config:
    return parse_config(TEXT, list(overrides))


def place(root: Path, name: str = "country", *overrides: str) -> Place:
    tested = ("atlas/country", "atlas/capital")
    return Place("small", name, "default", root / name, config(*overrides), (), tested_on=tested)


def run(*cells: Cell) -> None:
    for cell in cells:
        run_cell(cell, Console(file=io.StringIO()))


def calls(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> list[tuple[Any, ...]]:
    """The arguments of every call of a function, as a module knows it."""
    held = importlib.import_module(module)
    real: Callable[..., Any] = getattr(held, name)
    seen: list[tuple[Any, ...]] = []

    def called(*args: Any, **kwargs: Any) -> Any:
        seen.append(args)
        return real(*args, **kwargs)

    monkeypatch.setattr(held, name, called)
    return seen


def test_the_base_model_is_loaded_and_asked_once_for_all_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place(tmp_path)
    (cell,) = row_cells(here, ["base", "base+platt"], [0, 1, 2])
    run(Cell(here, "prepare"))
    loads, asked = (calls(monkeypatch, ASKED, name) for name in ("load_model", "score_examples"))
    run(cell)
    times = Counter((e.task, e.split, e.id) for _, _, examples, _ in asked for e in examples)
    assert len(loads) == 1
    assert set(times.values()) == {1}
    splits = stages.read_splits(RunFolder(here.path))
    held = stages.open_folder(here.config, here.path, resume=True)
    for seed in range(3):
        wanted = stages.of_seed(splits, seed)
        found = {rows[0].split + rows[0].task: rows for rows in
                 held.read_predictions(held.predictions("base", seed))}  # fmt: skip
        half = found["calibrationatlas/country"]
        assert {row.id for row in half} == {e.id for e in wanted["calibration"]}
        assert len(found) == 3
    assert not cell.missing()


def answers(folder: Path, split: str) -> dict[str, Any]:
    """Question -> how the base model answered it, without the name of the run."""
    held = RunFolder(folder)
    rows = [row for each in held.read_predictions(held.predictions("base", 0)) for row in each]
    return {row.id: replace(row, run="") for row in rows if row.split == split}


def test_the_base_model_is_asked_once_for_all_variants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads, asked = (calls(monkeypatch, ASKED, name) for name in ("load_model", "score_examples"))

    def base(name: str, *overrides: str) -> tuple[int, int]:
        """Loads and questions of a run folder."""
        here, before = place(tmp_path, name, *overrides), len(asked)
        del loads[:]
        run(Cell(here, "prepare"), *row_cells(here, ["base"], [0]))
        return len(loads), sum(len(examples) for _, _, examples, _ in asked[before:])

    loaded, n = base("country")
    assert loaded == 1
    assert n > 8 + 8  # half of the calibration split, and two test splits
    assert base("longer", "train.steps=9") == (0, 0)
    assert answers(tmp_path / "country", "test") == answers(tmp_path / "longer", "test")
    assert base("smaller", "tasks.limit.test=4", "tasks.out_of_domain=[]") == (0, 0)
    assert base("further", "tasks.limit.test=9") == (1, 1)
    assert base("bf16", "model.dtype=bfloat16") == (1, n)
    for file in (tmp_path / "answers").glob("*.jsonl"):
        file.write_text("{")
    with pytest.raises(ValueError, match=r"answers.*row 1"):
        base("damaged", "train.steps=8")


def test_a_temperature_of_every_seed_needs_no_further_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place(tmp_path)
    run(Cell(here, "prepare"))
    loads = calls(monkeypatch, ASKED, "load_model")
    run(*row_cells(here, ["base", "base+ts"], [0, 1]))
    assert len(loads) == 1
    run(*row_cells(here, ["sft", "sft+ts", "sft+platt"], [0]))
    assert len(loads) == 2


def test_a_fine_tuned_model_is_asked_once_for_its_temperature_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place(tmp_path)
    run(Cell(here, "prepare"))
    alone = calls(monkeypatch, SCORED, "score_examples")
    together = calls(monkeypatch, SCORED, "score_at")
    run(*row_cells(here, ["sft", "sft+ts"], [0]))
    assert alone == []
    splits = stages.of_seed(stages.read_splits(RunFolder(here.path)), 0)
    tested = [name for name in splits if name not in ("train", THRESHOLD)]
    assert len(together) == len(tested)
    folder = stages.open_folder(here.config, here.path, resume=True)
    at_once = {name: kept(folder, name) for name in ("sft", "sft+ts")}
    for name in at_once:
        shutil.rmtree(folder.predictions(name, 0))
    context = stages.RunContext(
        here.config, folder, StageProgress(Console(file=io.StringIO()), tmp_path / "t.json")
    )
    for name in at_once:  # one after the other
        stages.score(context, Method.parse(name), 0, stages.read_splits(folder))
        assert kept(folder, name) == at_once[name]
    assert len(together) == len(tested)
    assert len(alone) == 2 * len(tested)
    shutil.rmtree(folder.predictions("sft", 0))  # as a stop between the two leaves it
    stages.score(
        context, Method.parse("sft"), 0, stages.read_splits(folder), along=["sft", "sft+ts"]
    )
    assert kept(folder, "sft") == at_once["sft"]
    assert (len(together), len(alone)) == (len(tested), 3 * len(tested))
    shutil.rmtree(folder.predictions("sft", 0))
    shutil.rmtree(folder.predictions("sft+ts", 0))
    shown = io.StringIO()
    told = replace(
        context, progress=StageProgress(Console(file=shown, width=200), tmp_path / "u.json")
    )
    for name in at_once:
        both = ["sft", "sft+ts"]
        stages.score(told, Method.parse(name), 0, stages.read_splits(folder), along=both)
    assert shown.getvalue().count("sft") == 1  # a stage for both, and none from before


def kept(folder: RunFolder, method: str) -> dict[str, bytes]:
    """File beneath a method's predictions -> what it holds, its maps among them."""
    root = folder.predictions(method, 0)
    files = [path for path in root.rglob("*") if path.is_file() and path.name != "metrics.json"]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_shared_answers_are_those_of_a_model_asked_alone(tmp_path: Path) -> None:
    here = place(tmp_path)
    run(Cell(here, "prepare"), *row_cells(here, ["base", "base+ts"], [0, 1]))
    alone = place(tmp_path, "alone")
    run(Cell(alone, "prepare"))
    folders = [stages.open_folder(each.config, each.path, resume=True) for each in (here, alone)]
    context = stages.RunContext(
        alone.config, folders[1], StageProgress(Console(file=io.StringIO()), tmp_path / "t.json")
    )
    for name in ("base", "base+ts"):
        stages.score(context, Method.parse(name), 1, stages.read_splits(folders[1]))
        one, other = (each.read_predictions(each.predictions(name, 1)) for each in folders)
        for rows, again in zip(one, other, strict=True):
            assert [row.id for row in rows] == [row.id for row in again]
            assert [row.nll for row in rows] == pytest.approx([row.nll for row in again], rel=1e-4)


def test_members_of_an_ensemble_share_one_loaded_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place(tmp_path)
    run(Cell(here, "prepare"), *row_cells(here, ["ensemble"], [0]))
    loads = calls(monkeypatch, "cogcalib.baselines.ensemble", "load_model")
    run(Cell(here, "baseline", "ensemble", 0, ("ensemble", "ensemble+ts")))
    assert len(loads) == 1


def test_members_trained_whole_are_loaded_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place(tmp_path, "full", "model.lora=null")
    run(Cell(here, "prepare"), *row_cells(here, ["ensemble"], [0]))
    loads = calls(monkeypatch, "cogcalib.baselines.ensemble", "load_model")
    run(Cell(here, "baseline", "ensemble", 0, ("ensemble",)))
    assert len(loads) == 2


def test_a_model_is_probed_once_on_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = calls(monkeypatch, "cogcalib.harness.stages.probe", "probe")
    run(Cell(place(tmp_path), "prepare"))
    run(Cell(place(tmp_path, "other", "train.steps=3"), "prepare"))
    assert [len(examples) for _, _, examples in asked] == [12]
    run(Cell(place(tmp_path, "larger", "tasks.limit.train=20"), "prepare"))
    assert len(asked) == 2
    assert 8 <= len(asked[1][2]) < 20
    run(Cell(place(tmp_path, "bf16", "model.dtype=bfloat16"), "prepare"))
    assert len(asked[2][2]) == 12
    first, second = (RunFolder(tmp_path / name).read_probe() for name in ("country", "other"))
    assert first == second


SHARES = "tasks.equal_to=[0.0, 0.25, 1.0]"


def test_mixtures_have_the_largest_size_that_all_of_them_have(tmp_path: Path) -> None:
    sizes = []
    for number, share in enumerate((0.0, 0.25, 1.0)):
        here = place(tmp_path, f"r{number}", f"tasks.unknown_share={share}", SHARES,
                     "tasks.limit.train=100000")  # fmt: skip
        run(Cell(here, "prepare"))
        folder = RunFolder(here.path)
        train, labels = stages.read_splits(folder)["train"], folder.read_probe()
        kinds = Counter(labels[example.id].category for example in train)
        assert kinds["unknown"] == round(share * len(train))
        sizes.append(len(train))
        pool = Counter(record.category for record in labels.values())
    assert len(set(sizes)) == 1
    one_more = sizes[0] + 1
    assert min(pool["known"], pool["unknown"]) < one_more


def test_a_pool_without_one_kind_is_refused_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.import_module("cogcalib.harness.stages.prepare").largest_mixture
    monkeypatch.setattr(
        importlib.import_module("cogcalib.harness.stages.prepare"),
        "largest_mixture",
        lambda kinds, shares: real([kind for kind in kinds if kind != "unknown"], shares),
    )
    here = place(tmp_path, "r", "tasks.unknown_share=0.0", SHARES)
    with pytest.raises(InputError, match=r"equal_to: of atlas/country the base model knows \d+"):
        run(Cell(here, "prepare"))
    assert not (here.path / "train").exists()
