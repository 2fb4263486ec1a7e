"""A table of one's own questions."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cogcalib.tasks import load_table

CSV = """question,answer,aliases,group
Who wrote Emma?,Jane Austen,Austen|J. Austen,books
"What is 2, doubled?",4,,numbers
"""


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv(tmp_path):
    task = load_table(written(tmp_path, "My questions.csv", CSV), prompt="blob")
    first, second = task.splits["train"]
    assert task.name == "my-questions"
    assert (first.prompt, first.answer, first.aliases) == (
        "Who wrote Emma?", "Jane Austen", ("Austen", "J. Austen"),
    )  # fmt: skip
    assert (second.prompt, second.answer, second.aliases) == ("What is 2, doubled?", "4", ())
    assert [task.group_of[e.id] for e in task.splits["train"]] == ["books", "numbers"]
    assert {e.preset for e in task.splits["train"]} == {"blob"}


def test_jsonl_and_csv_give_the_same_questions(tmp_path):
    rows = [
        {"question": "Who wrote Emma?", "answer": "Jane Austen", "aliases": ["Austen"], "year": 1},
        {"question": "What is 2, doubled?", "answer": 4},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    found = load_table(written(tmp_path, "q.jsonl", lines)).splits["train"]
    text = 'question,answer,aliases\nWho wrote Emma?,Jane Austen,Austen\n"What is 2, doubled?",4,\n'
    assert found == load_table(written(tmp_path, "q.csv", text)).splits["train"]


@pytest.mark.parametrize("options", ["me|you", '"{""A"": ""me"", ""B"": ""you""}"', ""])
def test_an_answer_in_words_is_asked_without_its_options(options, tmp_path):
    path = written(tmp_path, "q.csv", f"question,answer,options\nWho?,me,{options}\n")
    (example,) = load_table(path).splits["train"]
    assert (example.answer, example.options) == ("me", None)
    several = '{"question": "Who?", "answer": ["I", "me"], "options": ["me", "you"]}'
    assert load_table(written(tmp_path, "q.jsonl", several)).splits["train"][0].aliases == ("me",)


def test_a_question_asked_twice_keeps_two_rows(tmp_path):
    path = written(tmp_path, "q.csv", "question,answer\nWho?,me\nWho?,you\n")
    ids = [example.id for example in load_table(path).splits["train"]]
    assert len(set(ids)) == 2


def test_ids_of_ones_own(tmp_path):
    path = written(tmp_path, "q.csv", "id,question,answer\nfirst,Who?,me\n 2 ,Who?,me\n")
    assert [example.id for example in load_table(path).splits["train"]] == ["first", "2"]
    lines = '{"id": 7, "question": "Who?", "answer": "me"}\n'
    (example,) = load_table(written(tmp_path, "q.jsonl", lines)).splits["train"]
    assert example.id == "7"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "q.csv",
            "question,reply\na,b\n",
            r"'answer' is missing; .* there are question, reply",
        ),
        ("q.csv", "question,answer\n", "there is no row"),
        (
            "q.csv",
            "question,answer,options\nWho?,A,me|you\n",
            r"names one of the options, .* task file of kind multiple-choice .*--task FILE\.yaml",
        ),
        ("q.jsonl", '{"question": "Who?", "answer": 1, "options": ["me", "you"]}', "names one of"),
        (
            "q.csv",
            "question,options,label\nWho?,me|you,A\n",
            r"one with options .*--task FILE\.yaml",
        ),
        ("q.csv", "prompt,completion\nA:, B\n", "rows to train on, .* of kind prompt-completion"),
        ("q.csv", "question,answer\nWho?,\n", r"q.csv, row 1, column 'answer': must be"),
        ("q.csv", "question,answer,group\nWho?,me,\n", "row 1, column 'group': must name a group"),
        ("q.csv", "id,question,answer\n ,Who?,me\n", "row 1, column 'id': must name the question"),
        ("q.csv", "id,question,answer\n1,a?,b\n1,c?,d\n", "two rows have the id '1'"),
        (
            "q.jsonl",
            '{"question": "a?", "answer": "b"}\n{"id": 1, "question": "c?", "answer": "d"}\n',
            "row 2, column 'id': must name the question, or no row may",
        ),
        ("q.csv", "question;answer\nWho, I ask?;me\n", "are its columns separated by ;"),
        ("q.txt", "question,answer\n", r"must be one of .jsonl, .csv, .parquet, got '.txt'"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        load_table(written(tmp_path, name, text))


NAN = float("nan")


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("values", "answers", "aliases"),
    [
        ({"answer": [1969.0, 1989.0]}, ("1969", "1989"), ((), ())),
        ({"answer": [0.5, 2.0**60]}, ("0.5", str(2.0**60)), ((), ())),
        ({"answer": ["NaN", "nan"]}, ("NaN", "nan"), ((), ())),
        ({"answer": ["x", "y"], "aliases": [NAN, 7.0]}, ("x", "y"), ((), ("7",))),
        ({"answer": ["x", "y"], "aliases": [None, [1.0]]}, ("x", "y"), ((), ("1",))),
    ],
)
def test_what_pandas_makes_of_gaps_and_integers_is_undone(tmp_path, kind, values, answers, aliases):
    path = tmp_path / f"q.{kind}"
    rows = [dict(zip(values, cells, strict=True)) for cells in zip(*values.values(), strict=True)]
    rows = [{"question": f"{number}?", **row} for number, row in enumerate(rows)]
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    found = load_table(path).splits["train"]
    assert tuple(example.answer for example in found) == answers
    assert tuple(example.aliases for example in found) == aliases


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answer": NAN}, "row 1, column 'answer': must be an answer or a list of them, got None"),
        ({"answer": ["x", NAN]}, "row 1, column 'answer': must be an answer or a list of them"),
        ({"question": NAN, "answer": "x"}, "row 1, column 'question': must be text, got None"),
        ({"answer": "x", "group": NAN}, "row 1, column 'group': must name a group"),
        ({"answer": "x", "id": NAN}, "row 1, column 'id': must name the question"),
    ],
)
def test_a_gap_is_no_answer(tmp_path, row, message):
    path = written(tmp_path, "q.jsonl", json.dumps({"question": "Who?", **row}) + "\n")
    with pytest.raises(ValueError, match=message):
        load_table(path)


def test_groups_and_ids_may_be_numbers(tmp_path):
    rows = [
        {"id": i, "question": "Who?", "answer": "me", "group": g} for i, g in ((1.0, 0), (2, 1.0))
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    task = load_table(written(tmp_path, "q.jsonl", lines))
    assert task.group_of == {"1": "0", "2": "1"}


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such data file"):
        load_table(tmp_path / "absent.csv")
