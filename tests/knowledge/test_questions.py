"""Questions in partitions, read from the place where each begins; shots whatever the order."""

from __future__ import annotations

import json
import pickle
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cogcalib.knowledge import questions as module
from cogcalib.knowledge.questions import Listed, named, partitions, survey
from cogcalib.tasks import QuestionTable, load_table


def rows(count: int) -> list[dict[str, object]]:
    return [
        {"question": f"Who is {i}?", "answer": f"é{i}", "aliases": ["x"] * (i % 3), "other": i}
        for i in range(count)
    ]


def written(path: Path, values: list[dict[str, object]], group_size: int = 4) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(values), path, row_group_size=group_size)
    elif path.suffix == ".csv":
        lines = [f'"Who\nis {i}?",é{i}' for i in range(len(values))]
        path.write_text("\n".join(["question,answer", *lines]), encoding="utf-8")
    else:
        # As it comes: line separators inside texts, no line feed at the end.
        lines = [json.dumps(value, ensure_ascii=False) for value in values]
        path.write_text("\n".join(lines).replace("Who", "Who\u2028"), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(count=st.integers(1, 23), partition=st.integers(1, 9), group_size=st.integers(1, 9))
def test_partitions_are_the_table(tmp_path, kind, count, partition, group_size):
    table = QuestionTable(written(tmp_path / f"q.{kind}", rows(count), group_size))
    streamed = survey(table, partition).questions
    assert streamed.count == count
    whole = [named(row) for _, row in table.read()]
    numbers = range(partitions(streamed))
    assert [row for number in numbers for row in streamed.read(number)] == whole
    again = pickle.loads(pickle.dumps(streamed))
    shuffled = random.Random(count).sample(numbers, len(numbers))
    found = {number: again.read(number) for number in shuffled}
    assert [row for number in numbers for row in found[number]] == whole
    assert [Listed(whole, partition).read(number) for number in numbers] == [
        found[number] for number in numbers
    ]


def test_a_folder_is_one_table(tmp_path):
    folder = tmp_path / "My data"
    folder.mkdir()
    written(folder / "b.parquet", rows(5))
    written(folder / "a.jsonl", [{"question": f"What is {i}?", "answer": i} for i in range(6)])
    (folder / "README.md").write_text("not looked at")
    table = QuestionTable(folder)
    assert table.name == "my-data"
    prompts = [row.example.prompt for _, row in table.read()]
    assert prompts == [f"What is {i}?" for i in range(6)] + [f"Who is {i}?" for i in range(5)]
    streamed = survey(table, 4).questions
    assert [row.example.prompt for row in streamed.read(1)] == prompts[4:8]
    elsewhere = streamed.everywhere()
    assert all(file.is_absolute() for file in elsewhere.table.files)
    assert elsewhere.read(2) == streamed.read(2)
    assert [e.prompt for e in load_table(folder).splits["train"]] == prompts


def test_a_table_that_shrank_is_refused(tmp_path):
    path = written(tmp_path / "q.jsonl", rows(9))
    streamed = survey(QuestionTable(path), 4).questions
    written(path, rows(7))
    assert len(streamed.read(0)) == 4
    with pytest.raises(ValueError, match="has fewer rows than when the probe was begun"):
        streamed.read(1)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"the folder holds no file ending in \.jsonl"):
        QuestionTable(tmp_path)


def test_the_pool_does_not_depend_on_the_order(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "POOL", 7)
    values = [
        {"question": f"Who is {i % 40}?", "answer": f"{i}", "group": "ab"[i % 40 % 2]}
        for i in range(60)
    ]
    found = []
    for seed in range(3):
        shuffled = random.Random(seed).sample(values, len(values))
        found.append(survey(QuestionTable(written(tmp_path / f"q{seed}.jsonl", shuffled)), 8))
    contents = [{(e.prompt, e.answer, each.group_of[e.id]) for e in each.pool} for each in found]
    assert contents[0] == contents[1] == contents[2]
    assert len(contents[0]) == 14
    assert {group for *_, group in contents[0]} == {"a", "b"}
    assert len({prompt for prompt, *_ in contents[0]}) == 14
    assert found[0].manifest != found[1].manifest


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([{"question": "a?", "answer": "b"}, {"question": "c?"}], r"row 2: no column 'answer'"),
        (
            [{"question": "a?", "answer": "b", "group": "g"}, {"question": "c?", "answer": "d"}],
            "row 2, column 'group': must name a group, or no row may",
        ),
        (
            [{"question": "a?", "answer": "b"}, {"question": "c?", "answer": "d", "group": "g"}],
            "row 2, column 'group': must name a group, or no row may",
        ),
    ],
)
def test_every_row_is_checked_before_any_work(tmp_path, values, message):
    path = written(tmp_path / "q.jsonl", values)
    with pytest.raises(ValueError, match=message):
        survey(QuestionTable(path), 10)


def test_repeats_and_contradictions_are_counted(tmp_path):
    values = [
        {"question": question, "answer": answer}
        for question, answer in [
            ("a?", "x"), ("a?", "X "), ("a? ", "x"), ("b?", "x"), ("c?", "x"), ("c?", "y"),
        ]
    ]  # fmt: skip
    found = survey(QuestionTable(written(tmp_path / "q.jsonl", values)), 4)
    assert found.questions.count == 6
    assert found.repeats == (
        "Of the table's 6 rows, all of them kept: 2 repeat the question and answer of an earlier "
        "one; 1 question has several answers"
    )
    assert survey(QuestionTable(written(tmp_path / "r.jsonl", rows(5))), 4).repeats == ""


def test_an_id_that_comes_again_is_refused(tmp_path):
    folder = tmp_path / "two"
    folder.mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        values = [{"id": f"{name[0]}{i}", "question": f"{i}?", "answer": "x"} for i in range(3)]
        written(folder / name, values)
    assert survey(QuestionTable(folder), 2).questions.count == 6
    values = [{"id": i, "question": f"{i}?", "answer": "x"} for i in (7, 8, "a1")]
    written(folder / "c.jsonl", values)
    with pytest.raises(ValueError, match="but 'a1' stands in row 2 and in row 9"):
        survey(QuestionTable(folder), 2)


def test_ids_whose_hashes_coincide_are_two(tmp_path, monkeypatch):
    monkeypatch.setattr("cogcalib.knowledge.repeats._short", lambda text: 1)
    values = [{"id": i, "question": f"{i}?", "answer": "x"} for i in range(3)]
    assert survey(QuestionTable(written(tmp_path / "q.jsonl", values)), 2).questions.count == 3


def test_ids_tell_answers_and_groups_apart(tmp_path):
    values = [
        {"question": "a?", "answer": answer, "group": group}
        for answer, group in [("x", "g"), ("y", "g"), ("x", "h"), ("x", "g")]
    ]
    ids = [row.example.id for _, row in QuestionTable(written(tmp_path / "q.jsonl", values)).read()]
    assert ids[0] == ids[3]
    assert len(set(ids)) == 3
