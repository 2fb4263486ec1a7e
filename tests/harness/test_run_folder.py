"""The run folder: who owns it, and that nobody else knows its paths."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import cogcalib
from cogcalib.harness.config import dump_config, load_config, parse_config
from cogcalib.harness.run_folder import RunFolder
from cogcalib.harness.stages import open_folder
from cogcalib.owned_folder import FolderError
from cogcalib.provenance import data_manifest, versions
from cogcalib.records import Example, write_text

CONFIG = "name: x\nseeds:\n- 0\n"


def test_a_new_folder_is_taken(tmp_path: Path) -> None:
    RunFolder.begin(tmp_path / "runs" / "x", CONFIG)
    assert (tmp_path / "runs" / "x" / "config.yaml").read_text() == CONFIG


def test_the_same_configuration_goes_on_only_if_asked(tmp_path: Path) -> None:
    RunFolder.begin(tmp_path / "x", CONFIG)
    with pytest.raises(FolderError, match="--resume"):
        RunFolder.begin(tmp_path / "x", CONFIG)
    RunFolder.begin(tmp_path / "x", CONFIG, resume=True)


def test_another_configuration_is_refused_and_the_difference_told(tmp_path: Path) -> None:
    RunFolder.begin(tmp_path / "x", CONFIG)
    for resume in (False, True):
        with pytest.raises(FolderError, match=r"'- 0', not '- 1'"):
            RunFolder.begin(tmp_path / "x", CONFIG.replace("0", "1"), resume=resume)
    with pytest.raises(FolderError, match="another length"):
        RunFolder.begin(tmp_path / "x", CONFIG + "methods: [sft]\n", resume=True)
    assert (tmp_path / "x" / "config.yaml").read_text() == CONFIG


def test_foreign_folders_and_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("dear reader")
    with pytest.raises(FolderError, match="no run of ours"):
        RunFolder.begin(tmp_path / "thesis", CONFIG, resume=True)
    with pytest.raises(FolderError, match="is a file"):
        RunFolder.begin(tmp_path / "thesis" / "chapter1.tex", CONFIG)


def test_the_manifest_tells_changes_of_data() -> None:
    first = [Example("q", "t", "test", "Which?", None, "two")]
    second = [Example("q", "t", "test", "Which?", None, "three")]
    before, after = data_manifest({"test": first}), data_manifest({"test": second})
    assert before == data_manifest({"test": list(first)})
    assert before["test"]["n"] == 1
    assert before["test"]["sha256"] != after["test"]["sha256"]


def test_versions_name_what_takes_part() -> None:
    assert {"python", "torch", "transformers", "trl"} <= versions().keys()


def test_a_folder_that_is_only_looked_into_is_left_as_it_is(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "x")
    assert folder.predictions("cols+ts", 3) == tmp_path / "x" / "recalibrate" / "cols+ts" / "seed-3"
    file = folder.predictions_file("cols", 3, "atlas/country")
    assert file == tmp_path / "x" / "score" / "cols" / "seed-3" / "atlas-country.test.jsonl"
    assert not (tmp_path / "x").exists()


def test_an_unfinished_training_is_none(tmp_path: Path) -> None:
    for name in ("seed-0", "seed-1.partial"):
        write_text(tmp_path / "train" / "cols" / name / "log.jsonl", "")
    assert [key for key, _ in RunFolder(tmp_path).logs()] == [("cols", 0)]
    write_text(tmp_path / "train" / "cols" / "seed-x" / "log.jsonl", "")
    with pytest.raises(ValueError, match="must be called seed-<number>"):
        RunFolder(tmp_path).logs()


@pytest.mark.parametrize(
    "held",
    [
        "{seeds: [0], name: x, probe: null}",
        "name: x\ntrain: {steps: 150, alpha: {entropy: {vocab: 4e-1, options: 0.4}}}",
        "name: x\nreport: {resamples: 1000}",
    ],
    ids=["other order, a key spelled out", "some defaults spelled out", "a key that came later"],
)
def test_a_configuration_counts_by_what_it_means(held: str, tmp_path: Path) -> None:
    write_text(tmp_path / "config.yaml", held)
    config = parse_config("name: x")
    assert open_folder(config, tmp_path, resume=True).config == tmp_path / "config.yaml"
    other = parse_config("name: x", ["train.steps=151"])
    with pytest.raises(FolderError, match="'steps: 150', not 'steps: 151'"):
        open_folder(other, tmp_path, resume=True)


def test_a_tuned_configuration_is_recognised_when_its_run_goes_on(tmp_path: Path) -> None:
    """It spells out every key; the configuration of a hand that leaves them out is the same."""
    spelled = dump_config(parse_config("name: x\nmethods: [sft, cols@0.1]"))
    write_text(tmp_path / "tuned.yaml", spelled)
    open_folder(load_config(tmp_path / "tuned.yaml"), tmp_path / "x", resume=False)
    # But for the number format of the weights, which the folder names.
    named = spelled.replace("dtype: auto", "dtype: float32")
    assert (tmp_path / "x" / "config.yaml").read_text() == named
    open_folder(parse_config("methods: [sft, cols@0.1]\nname: x"), tmp_path / "x", resume=True)


STAGES = {"splits", "train", "score", "recalibrate", "tune", "cells", "detector", "dynamics"}
FILES = {
    "config.yaml", "model.json", "tasks.json", "code.json", "timings.json", "metrics.json",
    "record.json", "report.html", "tune.json", "tuned.yaml", "thresholds.json", "log.jsonl",
    "cost.json", "manifest.json", "train.jsonl", "vector-options.json",
}  # fmt: skip


def paths_built(source: str) -> list[str]:
    """Names out of a run folder that code builds paths of; docstrings may tell of them."""
    tree = ast.parse(source)
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            last = node.value.rpartition("/")[2]
            globbed = re.search(r"seed-\*|\.partial", node.value)
            found += [node.value] if last in FILES or globbed else []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            right = ast.unparse(node.right)
            found += [right] if right.strip("'") in STAGES or "seed-" in right else []
    return found


def test_no_other_module_knows_a_path_in_a_run_folder() -> None:
    package = Path(cogcalib.__file__).parent
    sources = [*package.glob("harness/**/*.py"), *package.glob("cli/*.py"), package / "pipeline.py"]
    assert len(sources) > 40
    knowing = {
        path.relative_to(package).as_posix()
        for path in sources
        if paths_built(path.read_text(encoding="utf-8"))
    }
    assert knowing == {"harness/run_folder.py"}


@pytest.mark.parametrize(
    "code",
    [
        'path / "splits" / "manifest.json"',
        'folder / "train" / method',
        'folder / f"seed-{seed}"',
        'run.glob("train/*/seed-*/ledger")',
        'RECORD = "tune.json"',
        'output.with_name(f"{output.name}.partial")',
    ],
)
def test_a_path_is_found_however_it_is_built(code: str) -> None:
    assert paths_built(code)
    assert not paths_built(f'"""Of {code.replace(chr(34), "")}."""\nfolder.manifest')
