"""The verb ``tasks``: a list without loading, and one example shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cogcalib import cli
from cogcalib.harness.config import Config
from cogcalib.harness.stages import describe_tasks, load_tasks
from cogcalib.modeling import encode_batch, load_tokenizer

OWN = Path(__file__).parents[2] / "examples" / "own_task"


def test_the_list_reads_no_data(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cogcalib.tasks.loading.read_part", None)
    assert cli.main(["tasks"]) == 0
    out = capsys.readouterr().out
    for name in ("openbookqa", "winogrande_m", "mmlu/medicine", "entity_questions/P17"):
        assert name in out


@pytest.mark.parametrize(
    ("columns", "widest"), [("80", 80), ("200", 200), ("", 140), ("0", 140), ("wide", 140)]
)
def test_a_pipe_is_as_wide_as_it_is_said_to_be(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str, widest: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert cli.main(["tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    # Its longest texts fill the room that there is.
    assert max(map(len, lines)) == widest


def test_an_example_is_shown_with_its_supervised_span(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["tasks", "show", str(OWN / "rivers.yaml")]) == 0
    out = capsys.readouterr().out
    assert "rivers, version 1" in out
    assert "Answer:⟦ " in out
    assert "labels behind 3 prompts:" in out


LABELLED = (
    "{name: own, description: '', kind: multiple-choice, question: '{q}', answer: a,"
    " source: {parts: {all: {file: rows.jsonl}}}, splits: {train: {part: all}},"
    " options: {texts: ['it is not', 'it is'], labels: [no, yes], letters: [Wrongly, Truly]}}"
)


def test_labels_of_several_tokens_are_shown_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"q": "Is ice cold?", "a": "yes"}\n')
    task = tmp_path / "own.yaml"
    task.write_text(LABELLED)
    assert cli.main(["tasks", "show", str(task)]) == 0
    out = capsys.readouterr().out
    assert "Answer:⟦ Truly" in out
    assert "labels behind 1 prompts:" in out
    assert ", several" in out
    assert "labels must be single and distinct tokens" in out


def test_the_inverted_labels_of_boolq_can_be_looked_at(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tasks", "show", "boolq", "--data-dir", str(shared_data), "--prompt", "blob"]
    assert cli.main(words) == 0
    assert "labels must be single and distinct tokens" in capsys.readouterr().out


def test_repeats_are_shown(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tasks", "show", "openbookqa", "--data-dir", str(shared_data), "--prompt", "blob"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "openbookqa: 22 rows dropped from train, their questions stand in test too" in out
    assert "Chioces:" in out


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["river"], "there is no task 'river'"),
        (["absent.yaml"], "no such task file"),
        (["atlas/country", "--prompt", "haiku"], "prompt preset must be one of"),
        (["atlas/country", "--prompt", "blob+chat"], "has no chat template"),
        (["atlas/country", "--data-dir", "absent"], "data_dir must be an existing folder"),
        (["atlas/country", "--model", "./absent"], "does not exist"),
    ],
)
def test_wrong_input_is_exit_code_2(
    words: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["tasks", "show", *words]) == 2
    assert what in capsys.readouterr().err


def test_a_run_can_be_of_an_own_task_in_another_wording() -> None:
    config = Config.model_validate(
        {"name": "own", "tasks": {"train": str(OWN / "rivers.yaml"), "prompt": "laplace"}}
    )
    tasks = load_tasks(config)
    assert {e.preset for split in tasks[0].splits.values() for e in split} == {"laplace"}
    described = describe_tasks(config, tasks)["rivers"]
    assert described["prompt"] == "laplace"
    assert described["labels"]["distinct"]


def test_long_passages_are_shortened_and_counted(tmp_path: Path) -> None:
    rows = [{"q": f"Is {n} a number?", "p": "It is. " * n, "a": n % 2 == 0} for n in (9, 10, 300)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "task.yaml").write_text(
        "{name: passages, description: '', kind: multiple-choice, question: '{q}', context: p,"
        " source: {parts: {all: {file: rows.jsonl}}}, answer: a, splits: {test: {part: all}},"
        " options: {texts: ['yes', 'no'], labels: [true, false]}}"
    )
    config = Config.model_validate(
        {"name": "own", "tasks": {"out_of_domain": (str(tmp_path / "task.yaml"),)}}
    )
    tasks = load_tasks(config)
    assert describe_tasks(config, tasks)["passages"]["shortened"] == {"test": 1}
    encode_batch(tasks[1][0].splits["test"], load_tokenizer("atlas"), config.train.max_length)
