"""A task given by the path of its file is in domain under its own name, wherever it is told."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from cogcalib import cli, pipeline
from cogcalib.harness import stages
from cogcalib.harness.config import Config, parse_config
from cogcalib.harness.report import load_run
from cogcalib.records import Example, InputError
from cogcalib.tasks import load_task

TEXT = """
name: small
methods: [sft, cols]
tasks: {limit: {train: 24, calibration: 24, test: 24}}
train: {steps: 4, batch_size: 12, style_steps: 1, threshold_every: 1}
report: {resamples: 20}
"""
SPLITS = ("train", "calibration", "test")


def row(example: Example) -> dict[str, object]:
    texts = [option.text for option in example.options or ()]
    return {"question": example.prompt, "texts": texts, "answer": example.answer}


def write_task(folder: Path, file: str, name: str, *, skip: int = 0, repeat: int = 0) -> Path:
    """A task of ours as a user would write his own: 30 questions a split.

    Args:
        folder: Where it stands.
        file: Name of its file.
        name: What it calls itself.
        skip: Questions of each split that another task has.
        repeat: Questions of its test split that stand in the training split as well.
    """
    atlas = load_task("atlas/country").splits
    rows = {split: [row(each) for each in atlas[split][skip : skip + 30]] for split in SPLITS}
    rows["train"] += rows["test"][:repeat]
    for split, lines in rows.items():
        text = "\n".join(map(json.dumps, lines))
        (folder / f"{Path(file).stem}-{split}.jsonl").write_text(text + "\n", encoding="utf-8")
    parts = {split: {"file": f"{Path(file).stem}-{split}.jsonl"} for split in SPLITS}
    definition = {
        "name": name,
        "description": "for tests",
        "kind": "multiple-choice",
        "source": {"parts": parts},
        "question": "{question}",
        "options": {"column": "texts", "labels": ["A", "B", "C", "D"]},
        "answer": "answer",
        "splits": {split: {"part": split} for split in SPLITS},
    }
    (folder / file).write_text(json.dumps(definition), encoding="utf-8")
    return folder / file


def config_of(train: str, *others: str) -> Config:
    return parse_config(TEXT, [f"tasks.train={train}", f"tasks.out_of_domain={json.dumps(others)}"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose tasks are named by a relative and by an absolute path, unlike their names."""
    folder = tmp_path_factory.mktemp("own")
    write_task(folder, "mine.yaml", "lab/places")
    other = write_task(folder, "z.yml", "arena", skip=40)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = config_of("./mine.yaml", str(other))
        path = pipeline.run(config, folder / "runs", Console(quiet=True)).path
    (folder / "mine.yaml").unlink()  # what is told afterwards does not need it
    return path


def test_the_record_carries_the_names_that_the_tasks_give_themselves(finished: Path) -> None:
    record = json.loads((finished / "record.json").read_text("utf-8"))
    assert record["trained_on"] == "lab/places"
    assert list(record["tasks"]) == ["lab/places", "arena"]
    halves = {"calibration, threshold, seed 0"}
    assert set(record["data"]) == {*SPLITS, *halves, "arena"}
    rows = json.loads((finished / "metrics.json").read_text("utf-8"))
    assert {row["task"] for row in rows} == {"lab/places", "arena"}


def test_page_and_headline_are_of_the_task_trained_on(finished: Path) -> None:
    run = load_run(finished)
    assert run.trained_on == "lab/places"
    page = (finished / "report.html").read_text("utf-8")
    assert "lab/places · test · in-domain" in page
    assert "arena · test · out-of-domain" in page
    assert "is the only CogCalib variant of this run" in page
    assert "No CogCalib variant is singled out" not in page


def test_a_record_made_before_still_tells_it(finished: Path, tmp_path: Path) -> None:
    run = load_run(finished)
    before = {key: value for key, value in run.record.items() if key != "trained_on"}
    object.__setattr__(run, "record", before)
    assert run.trained_on == "lab/places"


def test_the_questions_are_read_back_without_the_task_files(finished: Path) -> None:
    config = parse_config((finished / "config.yaml").read_text("utf-8"))
    splits = stages.read_splits(stages.open_folder(config, finished, resume=True))
    assert {name: len(examples) for name, examples in splits.items()} == {
        "train": 24, "calibration": 24, "test": 24, "arena": 30,
    }  # fmt: skip


def test_the_terminal_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(TEXT, encoding="utf-8")
    task = write_task(tmp_path, "mine.yaml", "lab/places", repeat=7)
    words = ["-o", f"tasks.train={task}", "-o", "methods=[sft]"]
    assert cli.main(["run", str(path), "--runs", str(tmp_path / "runs"), *words]) == 0
    told = capsys.readouterr().out
    assert "lab/places · test · in-domain" in told
    # Seven questions of the test split stood in the training split, too: said where it happens.
    assert "lab/places: 7 rows dropped from train" in told
    assert "stand in test too; 30 are left" in told
    record = json.loads((tmp_path / "runs" / "small" / "record.json").read_text("utf-8"))
    (dropped,) = record["tasks"]["lab/places"]["dropped"]
    assert (dropped["split"], dropped["rows"], dropped["found_in"]) == ("train", 7, "test")


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (("lab/places", "lab/places"), "must not hold tasks.train, nor a task twice, got lab/pla"),
        (("a", "lab/x", "lab/x"), "nor a task twice, got lab/x"),
        (("a", "lab/x", "lab-x"), "lab-x would be filed as lab/x is"),
        (("a", "test"), "test would be filed as the split test is"),
    ],
)
def test_tasks_that_a_run_could_not_keep_apart_are_refused(
    names: tuple[str, ...], what: str, tmp_path: Path
) -> None:
    files = [
        str(write_task(tmp_path, f"{number}.yaml", name, skip=40 * number))
        for number, name in enumerate(names)
    ]
    with pytest.raises(InputError, match=what):
        stages.begin(config_of(*files), tmp_path / "run", Console(file=io.StringIO()))
    assert not (tmp_path / "run").exists()
