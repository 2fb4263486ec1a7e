"""A user's own task: the examples load, files of every kind agree, and errors say where."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogcalib.tasks import load_task
from cogcalib.tasks.divide import divide
from cogcalib.tasks.read import Row
from cogcalib.tasks.task_file import Definition

EXAMPLES = Path(__file__).parents[2] / "examples" / "own_task"
TASK = """
name: own
description: ours
kind: multiple-choice
source: {parts: {test: {file: FILE}}}
question: "{question}"
options: {texts: ["{a}", "{b}"], labels: [yes, no]}
answer: right
splits: {test: {part: test}}
"""
ROWS = [
    {"question": "Is ice cold?", "a": "it is", "b": "it is not", "right": "yes"},
    {"question": "Is fire cold?", "a": "it is", "b": "it is not", "right": "no"},
]


def write_task(folder: Path, file: str = "rows.jsonl", text: str = TASK) -> Path:
    path = folder / "own.yaml"
    path.write_text(text.replace("FILE", file))
    return path


def write_rows(folder: Path, rows: list[dict[str, object]]) -> None:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_examples_load() -> None:
    rivers = load_task(EXAMPLES / "rivers.yaml")
    assert sum(len(examples) for examples in rivers.splits.values()) == 12
    assert all(rivers.splits.values())
    mountains = load_task(str(EXAMPLES / "mountains.yaml"))
    first = mountains.splits["test"][0]
    assert first.prompt == "Which mountain range does Mont Blanc belong to?"
    assert (first.answer, first.aliases) == ("the Alps", ("Alps",))


def test_files_of_every_kind_give_the_same(tmp_path: Path) -> None:
    write_rows(tmp_path, [dict(row) for row in ROWS])
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ROWS[0])
        writer.writeheader()
        writer.writerows(ROWS)
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    splits = [
        load_task(write_task(tmp_path, f"rows.{kind}")).splits
        for kind in ("jsonl", "csv", "parquet")
    ]
    assert splits[0] == splits[1] == splits[2]
    assert [e.answer for e in splits[0]["test"]] == ["A", "B"]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"right": "maybe"}, r"column 'right': must be one of \['yes', 'no'\], got 'maybe'"),
        ({"right": None}, "column 'right': must be text, got None"),
        ({"a": ["x"]}, r"column 'a': must be text, got \['x'\]"),
        ({"question": "  "}, "column 'question': the question is empty"),
        ({"b": " "}, "column 'b': option B is empty"),
        ({"b": "it is "}, "columns 'a', 'b': options A and B are both 'it is'"),
    ],
)
def test_a_bad_cell_is_named(row: dict[str, object], what: str, tmp_path: Path) -> None:
    write_rows(tmp_path, [dict(ROWS[0]), {**ROWS[1], **row}])
    with pytest.raises(ValueError, match=rf"rows\.jsonl, row 2.*{what}"):
        load_task(write_task(tmp_path))


def test_rows_with_equal_options_are_counted_where_one_is_refused(tmp_path: Path) -> None:
    alike = {**ROWS[1], "b": "it is"}
    for number, said in (1, "1 of 4 rows is like this"), (3, "3 of 6 rows are like this"):
        others = [{**ROWS[0], "question": f"Is it {n}?"} for n in range(3)]
        rows = [{**alike, "question": f"Is it not {n}?"} for n in range(number)]
        write_rows(tmp_path, [others[0], *rows, *others[1:]])
        with pytest.raises(ValueError, match=rf"rows\.jsonl, row 2, .* both 'it is'; .*; {said}"):
            load_task(write_task(tmp_path))


def test_equal_options_stay_and_are_counted_where_the_task_says_so(tmp_path: Path) -> None:
    write_rows(tmp_path, [dict(ROWS[0]), {**ROWS[1], "b": "it is"}])
    task = load_task(write_task(tmp_path, text=f"{TASK}equal_options: true\n"))
    assert task.equal_options == {"test": 1}
    assert len(task.splits["test"]) == 2


OPEN = """
name: own
description: ours
kind: open-ended
source: {parts: {test: {file: FILE}}}
question: "{question}"
answer: answer
aliases: aliases
splits: {test: {part: test}}
"""


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"answer": " "}, "column 'answer': must be an answer or a list of them, got ' '"),
        ({"answer": ["the Alps", ""]}, "column 'answer': one of them is empty"),
        ({"aliases": ["Alps", " "]}, "column 'aliases': one of them is empty"),
    ],
)
def test_an_empty_answer_is_refused(row: dict[str, object], what: str, tmp_path: Path) -> None:
    good: dict[str, object] = {"question": "Where is Mont Blanc?", "answer": "x", "aliases": []}
    write_rows(tmp_path, [{**good, **row}])
    with pytest.raises(ValueError, match=rf"rows\.jsonl, row 1, {what}"):
        load_task(write_task(tmp_path, text=OPEN))


def test_an_empty_cell_holds_no_alias(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("question,answer,aliases\nWhere?,here,\n")
    (example,) = load_task(write_task(tmp_path, "rows.csv", OPEN)).splits["test"]
    assert example.aliases == ()


def test_an_empty_id_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path, [{"id": " ", "question": "Where?", "answer": "here", "aliases": None}])
    with pytest.raises(ValueError, match="row 1, column 'id': the id is empty"):
        load_task(write_task(tmp_path, text=f"{OPEN}id: id\n"))


def test_blank_lines_at_the_end_do_not_count(tmp_path: Path) -> None:
    write_rows(tmp_path, [dict(row) for row in ROWS])
    before = load_task(write_task(tmp_path)).splits
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write("\n  \n")
    assert load_task(write_task(tmp_path)).splits == before


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    write_rows(tmp_path, [{"question": "Why?", "a": "x", "right": "yes"}])
    with pytest.raises(ValueError, match=r"row 1: no column 'b'; there are question, a, right"):
        load_task(write_task(tmp_path))


@pytest.mark.parametrize(
    ("file", "content", "what"),
    [
        ("rows.jsonl", "{}\n{", "row 2: no valid JSON"),
        ("rows.jsonl", "[1]", "row 1: must be an object"),
        ("rows.jsonl", "{}\n\n{}", "row 2: no valid JSON: the line is empty"),
        ("rows.jsonl", b'{"a": "\xe9"}', "row 1: no UTF-8 text"),
        ("rows.csv", b"question,a,b,right\nW\xe9?,x,y,yes\n", "after row 0: no UTF-8 text"),
        ("rows.csv", 'question,a,b,right\n"Why" so?,x,y,yes\n', "row 1: no valid CSV"),
        ("rows.csv", 'question,a,b,right\n"Why?,x,y,yes\n', "row 1: no valid CSV"),
        ("rows.csv", "question,a,a,right\n", "there are two columns 'a'"),
        ("rows.csv", "question,a,b,right\nx,y\n", "row 1: must have as many cells as the header"),
        ("rows.parquet", "no", "no valid Parquet"),
        ("rows.txt", "", r"must be one of \.jsonl, \.csv, \.parquet"),
        ("absent.jsonl", None, "no such data file"),
    ],
)
def test_a_bad_file_is_named(
    file: str, content: str | bytes | None, what: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=rf"{file}.*{what}"):
        load_task(write_task(tmp_path, file))


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("kind: multiple-choice", "kind: essay", "kind: Input should be"),
        ("answer: right", "anser: right", "anser: no such key"),
        ('question: "{question}"', "question: What?", "key: must name a column"),
        ('"{a}"', '"{a b}"', "braces must hold names of columns"),
        ('"{a}"', '"{a!r:>20}"', "a column is shown as it is, without '!' or ':'"),
        ("labels: [yes, no]", "labels: [yes]", "must be equally many"),
        ("{test: {part: test}}", "{test: {part: dev}}", "the source has no part 'dev'"),
        ("{file: FILE}", "{}", "part 'test' needs a file, or the source a hub name"),
        ("name: own", "name: [", "no valid YAML"),
    ],
)
def test_a_bad_task_file_is_named(old: str, new: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"own\.yaml[:,] (.|\n)*{what}"):
        load_task(write_task(tmp_path, text=TASK.replace(old, new)))


def test_no_task_file_and_wrong_presets_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such task file"):
        load_task(tmp_path / "own.yaml")
    with pytest.raises(ValueError, match="prompt preset must be one of cogcalib, blob, laplace"):
        load_task("atlas/country", prompt="haiku")


def definition(**carve: object) -> Definition:
    return Definition.model_validate(
        {
            "name": "drawn",
            "description": "",
            "kind": "open-ended",
            "source": {"parts": {"all": {"file": "all.jsonl"}}},
            "question": "{question}",
            "answer": "answer",
            "splits": {
                "train": {"part": "all", "share": 0.6},
                "test": {"part": "all", "share": 0.4},
            },
            "carve": carve,
        }
    )


def rows(questions: list[str]) -> list[Row]:
    cells = [{"question": q, "answer": "x", "topic": q[:1]} for q in questions]
    return [Row(values, "all.jsonl", number) for number, values in enumerate(cells, start=1)]


QUESTIONS = [f"{topic}{number}?" for topic in "abcdefghijkl" for number in range(20)]


@given(order=st.permutations(QUESTIONS))
def test_a_draw_depends_on_content_alone(order: list[str]) -> None:
    def drawn(questions: list[str]) -> dict[str, set[str]]:
        splits, dropped = divide(definition(), {"all": rows(questions)}, None)
        assert not dropped
        return {name: {asked.key for asked in split} for name, split in splits.items()}

    splits = drawn(order)
    assert splits == drawn(QUESTIONS)
    assert splits["train"] | splits["test"] == set(QUESTIONS)
    assert not splits["train"] & splits["test"]
    half = drawn(order[:120])
    assert half["train"] == splits["train"] & set(order[:120])


def test_a_draw_has_its_share_and_its_seed() -> None:
    many = [f"{number}?" for number in range(5000)]
    keys = []
    for seed in (0, 1):
        splits, _ = divide(definition(seed=seed), {"all": rows(many)}, None)
        assert abs(len(splits["train"]) / len(many) - 0.6) < 0.02
        keys.append({asked.key for asked in splits["train"]})
    assert keys[0] != keys[1]


def test_what_belongs_together_stays_together() -> None:
    splits, _ = divide(definition(together="{topic}"), {"all": rows(QUESTIONS)}, None)
    topics = {name: {asked.key[0] for asked in split} for name, split in splits.items()}
    assert not topics["train"] & topics["test"]
