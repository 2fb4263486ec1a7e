"""Questions in files, from a pipe and typed: what they are read as, and what is refused."""

from __future__ import annotations

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cogcalib.deployment.question_files import (
    arriving_rows,
    is_file_name,
    read_question_file,
    typed_question,
)
from cogcalib.records import InputError


def through_pipe(content: bytes, *, worded: bool = False):
    read, write = os.pipe()
    try:
        os.write(write, content)
        os.close(write)
        return [row for rows in arriving_rows(read, worded=worded) for row in rows]
    finally:
        os.close(read)


def test_csv_holds_lists_as_json_or_separated(tmp_path) -> None:
    path = tmp_path / "q.csv"
    path.write_text(
        "id,prompt,question,options,passage,messages\n"
        "x,A:, , A| B,,\n"
        ",,Where?,Lyon | Ur,There.,\n"
        ',,Where?,"{""A"": ""Lyon"", ""B"": ""Ur""}",,\n'
        ',,,,,"[{""role"": ""user"", ""content"": ""Hi""}]"\n',
        encoding="utf-8",
    )
    first, second, third, fourth = read_question_file(path)
    assert (first.id, first.value["options"]) == ("x", [" A", " B"])
    assert "question" not in first.value
    assert (second.id, second.value["options"]) == (2, ["Lyon", "Ur"])
    assert second.value["passage"] == "There."
    assert third.value["options"] == {"A": "Lyon", "B": "Ur"}
    assert fourth.value["messages"] == [{"role": "user", "content": "Hi"}]
    assert fourth.place == f"{path}, row 4"
    path.write_text("question,options\nWhere?,[1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"row 1, column 'options': no valid JSON"):
        list(read_question_file(path))


def test_jsonl_and_parquet_are_the_same(tmp_path) -> None:
    rows = [{"id": 7, "prompt": "A:", "options": [" A", " B"]}, {"id": None, "prompt": "| B"}]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "q.parquet")
    lines, table = (list(read_question_file(tmp_path / f"q.{k}")) for k in ("jsonl", "parquet"))
    assert [row.id for row in lines] == [row.id for row in table] == [7, 2]
    for one, other in zip(lines, table, strict=True):
        assert one.value["prompt"] == other.value["prompt"]
        assert one.value.get("options") == other.value["options"]


def test_lines_of_a_pipe_are_questions_or_objects() -> None:
    found = through_pipe("Où?\r\n {not json\nlast".encode())
    assert [row.value for row in found] == ["Où?", " {not json", "last"]
    assert [row.place for row in found] == [f"standard input, line {n}" for n in (1, 2, 3)]
    worded = through_pipe(b" Where? \n", worded=True)
    assert [row.value for row in worded] == [{"question": "Where?"}]
    marked = through_pipe(b'\xef\xbb\xbf{"id": "a", "prompt": "x", "y": NaN}\n{"prompt": "z"}')
    assert [row.id for row in marked] == ["a", 2]
    assert marked[0].value == {"id": "a", "prompt": "x", "y": None}
    assert through_pipe(b"") == []


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"one\n\ntwo", "line 2: there is no question"),
        (b'{"prompt": "a"}\nplain', "line 2: no valid JSON"),
        (b'{"prompt": "a"}\n[1]', r"line 2: must be a JSON object, as the first line, got \[1\]"),
        (b'{"prompt": "a"}\n\n', "line 2: no valid JSON"),
        (b"one\n\xff\xfe\n", "line 2: no UTF-8 text"),
        (b"{" + b'"a":[' * 100_000, "line 1: no valid JSON"),
    ],
)
def test_wrong_lines_are_named(tmp_path, content: bytes, what: str) -> None:
    path = tmp_path / "lines"
    path.write_bytes(content)
    with path.open("rb") as file, pytest.raises(InputError, match=f"standard input, {what}"):
        list(arriving_rows(file.fileno(), worded=False))


def test_lines_are_given_when_they_come() -> None:
    read, write = os.pipe()
    os.write(write, b"one\ntwo\nthr")
    rows = arriving_rows(read, worded=False)
    assert [row.value for row in next(rows)] == ["one", "two"]
    os.write(write, b"ee\n")
    assert [row.value for row in next(rows)] == ["three"]
    os.close(write)
    assert list(rows) == []
    os.close(read)


def test_typed_question_is_a_text_or_an_object() -> None:
    assert typed_question("Where?", worded=True).value == {"question": "Where?"}
    assert typed_question("Where?\n", worded=False).value == "Where?\n"
    assert typed_question(' {"prompt": "x"}', worded=True).value == {"prompt": "x"}
    for words in ("{no", "{} []"):
        with pytest.raises(InputError, match="the question: no valid JSON"):
            typed_question(words, worded=False)


def test_names_of_files_are_told_from_questions(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").write_text("x")
    assert is_file_name("notes")
    assert is_file_name("missing.csv")
    assert not is_file_name("What is in missing.csv")
    assert not is_file_name("Where?")
    assert not is_file_name("word " * 2000)
    assert not is_file_name("nul\0byte")
