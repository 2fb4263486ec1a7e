"""Rows to train on as questions: every character stays, and what cannot be used is named by row."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cogcalib.modeling import render_completion, render_prompt
from cogcalib.records import CHAT, VERBATIM
from cogcalib.tasks import check_disjoint, load_rows, load_task

OPTIONS = [" A", " B", " C"]
USER = {"role": "user", "content": "Where is Lima?"}
ASSISTANT = {"role": "assistant", "content": "B"}

TASK = """
name: mine
description: rows of mine
kind: prompt-completion
source:
  parts:
    train: {file: train.jsonl}
    calibration: {file: calibration.jsonl}
    test: {file: test.jsonl}
splits:
  train: {part: train}
  calibration: {part: calibration}
  test: {part: test}
"""


def choice(number: int, **change: Any) -> dict[str, Any]:
    prompt = f"  Question {number}?\nA. x\nB. y\nC. z\nAnswer:"
    return {"prompt": prompt, "completion": " B", "options": OPTIONS} | change


def talk(number: int, **change: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Question {number}?"}, ASSISTANT]
    return {"messages": messages, "options": ["A", "B"]} | change


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_prompt_completion_and_options_keep_every_character(tmp_path: Path) -> None:
    path = write(tmp_path / "My rows.jsonl", [choice(1), choice(2, completion=" C", id=7)])
    task = load_rows(path)
    assert (task.name, list(task.splits)) == ("my-rows", ["test"])
    for example, answer in zip(task.splits["test"], (" B", " C"), strict=True):
        assert example.preset == VERBATIM
        assert render_prompt(example) == example.prompt
        assert render_completion(example) == example.answer == answer
        assert [option.letter for option in example.options or ()] == OPTIONS
    assert task.splits["test"][0].prompt == choice(1)["prompt"]


@pytest.mark.parametrize("cell", [json.dumps(OPTIONS), "|".join(OPTIONS)])
def test_a_csv_has_the_same_rows(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["prompt", "completion", "options", "note"])
        table.writerows([choice(n)["prompt"], " B", cell, ""] for n in (1, 2))
    lines = write(tmp_path / "rows.jsonl", [choice(1), choice(2)])
    assert load_rows(path).splits["test"] == load_rows(lines).splits["test"]


def test_a_csv_without_options_is_open_ended(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        "prompt,completion,options,aliases\nWhere is Lima?, Peru,,Perú|Republic of Peru\n"
    )
    (example,) = load_rows(path).splits["test"]
    assert example.options is None
    assert example.aliases == ("Perú", "Republic of Peru")


def test_open_answers_may_have_others_accepted(tmp_path: Path) -> None:
    row = {"prompt": "Capital of Peru:", "completion": " Lima", "aliases": ["Ciudad de los Reyes"]}
    (example,) = load_rows(write(tmp_path / "q.jsonl", [row])).splits["test"]
    assert (example.answer, example.aliases) == (" Lima", ("Ciudad de los Reyes",))
    assert example.options is None


def test_messages_are_kept_in_whichever_form_they_come(tmp_path: Path) -> None:
    both = {"prompt": [USER], "completion": [ASSISTANT], "options": ["A", "B"], "tools": None}
    other = {"messages": [USER, ASSISTANT], "options": ["A", "B"]}
    pq.write_table(pa.Table.from_pylist([both]), tmp_path / "b.parquet")
    found = [
        load_rows(path).splits["test"][0]
        for path in (write(tmp_path / "o.jsonl", [other]), tmp_path / "b.parquet")
    ]
    assert {example.preset for example in found} == {VERBATIM + CHAT}
    assert [json.loads(example.prompt) for example in found] == [{"messages": [USER]}] * 2
    given = talk(1, chat_template_kwargs={"style": "s"}, tools=[{"a": 1}])
    (example,) = load_rows(write(tmp_path / "t.jsonl", [given])).splits["test"]
    beside = {key: given[key] for key in ("chat_template_kwargs", "tools")}
    assert json.loads(example.prompt) == {"messages": given["messages"][:1], **beside}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (choice(2, completion="B"), r"row 2, completion: .*\[' A', ' B', ' C'\], got 'B'; they m"),
        (choice(2, completion=" D"), r"row 2, completion: must be one of the options .* ' D'$"),
        (choice(2, completion=" "), "row 2, completion: must be a text that is not empty"),
        (choice(2, completion=None), "row 2, completion: must be a text .* got None"),
        (choice(2, prompt=3), "row 2, prompt: must be a text .* got 3"),
        (choice(2, options=[" A"]), "row 2, options: must be a list of two or more"),
        (choice(2, options="A|B"), r"row 2, options: .*got 'A\|B'"),
        (choice(2, options=None), r"row 2: has none, and .*row 1 has options; rows of one task"),
        (talk(2), r"row 2: a conversation, and .*row 1 a text"),
        (choice(2, messages=[USER]), "row 2: must have prompt and completion, or messages"),
        (
            {"question": "Q?", "answer": "B"},
            "row 2: must have .* question, answer; questions .* a task file",
        ),
        (choice(2, aliases="x"), "row 2, aliases: must be a list of texts"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    path = write(tmp_path / "q.jsonl", [choice(1), row])
    with pytest.raises(ValueError, match=rf"q\.jsonl, {said}"):
        load_rows(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"messages": [USER, USER]}, "row 1: the answer must be one message of the assist"),
        ({"messages": [ASSISTANT, ASSISTANT]}, "the last message before the answer is the assis"),
        ({"messages": [ASSISTANT]}, "row 1, prompt: must be messages"),
        ({"messages": [{"role": "user"}, ASSISTANT]}, "row 1, messages: must be messages"),
        ({"messages": None, "prompt": [USER], "completion": " B"}, "row 1, completion: must be m"),
        ({"options": [" A", " B"]}, "row 1, completion: must be one of .* written as the comp"),
        ({"messages": [{"role": "user", "content": " \n"}, ASSISTANT]}, "row 1: .* are empty"),
        ({"tools": 7}, "row 1, tools: must be a list, or JSON of one, got 7"),
        ({"tools": "{"}, "row 1, tools: no valid JSON: "),
        ({"tools": '{"a": 1}'}, "row 1, tools: must be a list"),
        ({"chat_template_kwargs": "x"}, "row 1, chat_template_kwargs: must be keys and values"),
        ({"chat_template_kwargs": ["x"]}, "row 1, chat_template_kwargs: must be keys and values"),
    ],
)
def test_a_conversation_that_cannot_be_used_is_named(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        load_rows(write(tmp_path / "q.jsonl", [talk(1, **change)]))


def test_a_task_file_names_three_files(tmp_path: Path) -> None:
    for start, name in enumerate(("train", "calibration", "test")):
        rows = [choice(10 * start + number) for number in range(3)]
        write(tmp_path / f"{name}.jsonl", [*rows, choice(20)])
    (tmp_path / "mine.yaml").write_text(TASK)
    task = load_task(tmp_path / "mine.yaml")
    sizes = {name: len(examples) for name, examples in task.splits.items()}
    # Question 20 stands in all three; the test keeps it, and there it stands twice.
    assert sizes == {"train": 3, "calibration": 3, "test": 4}
    assert sum(repeats.rows for repeats in task.dropped) == 2
    ids = [example.id for examples in task.splits.values() for example in examples]
    assert len(set(ids)) == len(ids)
    with pytest.raises(ValueError, match="prompt: mine has rows that stand as they are written"):
        load_task(tmp_path / "mine.yaml", prompt="blob")


@pytest.mark.parametrize("key", ["question", "answer", "options", "context", "presets"])
def test_a_task_file_of_rows_words_nothing(tmp_path: Path, key: str) -> None:
    value = {"options": "{texts: [a, b], labels: [0, 1]}", "presets": "{}"}.get(key, "'{prompt}'")
    (tmp_path / "mine.yaml").write_text(TASK + f"{key}: {value}\n")
    with pytest.raises(ValueError, match=f"{key}: rows of kind prompt-completion stand as they"):
        load_task(tmp_path / "mine.yaml")


@pytest.mark.parametrize("key", ["question", "answer"])
def test_other_tasks_still_need_their_words(tmp_path: Path, key: str) -> None:
    text = TASK.replace("prompt-completion", "open-ended")
    other = {"question": "answer: a\n", "answer": "question: '{q}'\n"}[key]
    (tmp_path / "mine.yaml").write_text(text + other)
    with pytest.raises(ValueError, match=f"{key}: a task of kind open-ended needs it"):
        load_task(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "user", "content": " Who  lives\tthere?\n"},
        {"role": "user", "content": "Who lives\nthere?"},
        {"content": "Who lives there?", "role": "user"},
        {"role": "user", "content": "Who lives there?", "name": None},
    ],
)
@pytest.mark.parametrize("in_prompt", [True, False])
def test_messages_that_ask_the_same_stand_in_one_split(
    tmp_path: Path, turn: dict[str, Any], in_prompt: bool
) -> None:
    other = {"messages": [turn, ASSISTANT]}
    if in_prompt:
        other = {"prompt": [turn], "completion": [ASSISTANT]}
    asked = {"messages": [{"role": "user", "content": "Who lives there?"}, ASSISTANT]}
    answers = {"options": ["A", "B"]}
    write(tmp_path / "train.jsonl", [other | answers, talk(1)])
    write(tmp_path / "calibration.jsonl", [talk(2)])
    write(tmp_path / "test.jsonl", [asked | answers])
    (tmp_path / "mine.yaml").write_text(TASK)
    task = load_task(tmp_path / "mine.yaml")
    assert [len(task.splits[name]) for name in ("train", "test")] == [1, 1]
    assert [(each.split, each.rows) for each in task.dropped] == [("train", 1)]
    rows = load_rows(write(tmp_path / "a.jsonl", [other | answers])).splits["test"]
    with pytest.raises(ValueError, match="share 1 question"):
        check_disjoint({"train": rows, "test": task.splits["test"]})


def test_a_file_in_the_place_of_a_task_is_told_where_it_goes() -> None:
    for name in ("rows.jsonl", "table.csv", "a/b.parquet"):
        with pytest.raises(ValueError, match=r"; a file of rows goes with data, or into a ta"):
            load_task(name)
    with pytest.raises(ValueError, match=r"no task 'rows.txt'.*is the path of a YAML file$"):
        load_task("rows.txt")
