"""A model's file may name task files of its owner, to train on and to test on."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from cogcalib.harness.reproduce import ExecutionOptions, Preset, Table, make_plan, reproduce
from cogcalib.harness.reproduce.result_files import write_results

TABLE = Table(name="tiny", title="Tiny", question="Does it run?", methods=("base", "sft"))


def task_file(folder: Path, name: str) -> str:
    rows = [
        json.dumps({"question": f"Where is {name} {n}?", "answer": f"Land {n % 3}"})
        for n in range(24)
    ]
    for part in range(3):
        text = "\n".join(rows[part * 8 : part * 8 + 8])
        (folder / f"{name}-{part}.jsonl").write_text(text + "\n", encoding="utf-8")
    definition = {
        "name": f"own/{name}",
        "description": "for tests",
        "kind": "open-ended",
        "source": {"parts": {str(part): {"file": f"{name}-{part}.jsonl"} for part in range(3)}},
        "question": "{question}",
        "answer": "answer",
        "splits": {
            split: {"part": str(part)}
            for part, split in enumerate(("train", "calibration", "test"))
        },
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(definition), encoding="utf-8")
    return str(path)


@pytest.mark.usefixtures("cells_in_process")
def test_a_table_on_task_files_names_them_as_they_name_themselves(
    small: Preset, tmp_path: Path
) -> None:
    tasks = {"train": task_file(tmp_path, "north"), "out_of_domain": [task_file(tmp_path, "south")]}
    preset = small.model_copy(update={"tasks": {"north": {"tasks": tasks}}})
    plan = make_plan(TABLE, preset, tmp_path / "runs", seeds=[0], tune_seeds=[0])
    outcome = reproduce(plan, ExecutionOptions(), Console(file=io.StringIO()))
    assert outcome.failures == []
    write_results(outcome, tmp_path / "results", "cogcalib reproduce tiny", "ece")
    groups = json.loads((tmp_path / "results" / "tiny-small.json").read_text("utf-8"))["results"]
    assert {group["trained_on"] for group in groups} == {"own/north"}
    assert [(group["task"], group["n"]) for group in groups] == [("own/north", 8), ("own/south", 8)]
    assert all([row["method"] for row in group["rows"]] == ["base", "sft"] for group in groups)
    page = (tmp_path / "results" / "tiny-small.md").read_text("utf-8")
    assert "own/south" in page
    assert str(tmp_path) not in page
