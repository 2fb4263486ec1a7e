"""Questions that differ in white space or in the form of their accents; damaged tables."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogcalib.records import asked_text
from cogcalib.tasks import check_disjoint, load_task
from cogcalib.tasks.read import read_file

TASK = """
name: t
description: d
kind: open-ended
source: {parts: {tr: {file: tr.jsonl}, te: {file: te.jsonl}}}
question: "{q}"
answer: a
splits: {train: {part: tr}, test: {part: te}}
"""


def written(folder: Path, train: list[str], test: list[str]) -> Path:
    for name, questions in (("tr", train), ("te", test)):
        lines = (json.dumps({"q": question, "a": "x"}) + "\n" for question in questions)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "t.yaml").write_text(TASK)
    return folder / "t.yaml"


@pytest.mark.parametrize(
    "other", ["Où est Orléans? ", "Où  est\tOrléans?", "Ou\u0300 est Orle\u0301ans?"]
)
def test_white_space_and_accents_make_no_other_question(other: str, tmp_path: Path) -> None:
    task = load_task(written(tmp_path, [other, "Who?"], ["Où est Orléans?"]))
    assert [example.prompt for example in task.splits["train"]] == ["Who?"]
    assert [(each.split, each.rows) for each in task.dropped] == [("train", 1)]
    train = load_task(written(tmp_path, [other], ["Who?"])).splits["train"]
    with pytest.raises(ValueError, match="share 1 question"):
        check_disjoint({"train": train, "test": task.splits["test"]})


def test_case_makes_another_question(tmp_path: Path) -> None:
    assert not load_task(written(tmp_path, ["who?"], ["Who?"])).dropped


def test_a_split_whose_questions_all_stand_in_a_later_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"t: split train has no rows left: .* \(2 in test\)"):
        load_task(written(tmp_path, ["Q?", "Q? "], ["Q?"]))


@given(st.text())
def test_the_form_of_comparison_is_stable(text: str) -> None:
    once = asked_text(text)
    assert asked_text(once) == once == asked_text(f" {unicodedata.normalize('NFD', text)}\n")


def table(path: Path, columns: Any) -> Path:
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path)
    return path


def test_numbers_of_few_bits_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = [0.1, 2.5e-8, None, 1e10]
    path = table(
        tmp_path / "t.parquet",
        {
            "single": pa.array(written, pa.float32()),
            "half": pa.array(np.array([0.1, 0.2, 3, 4], dtype=np.float16)),
            "list": pa.array([[0.1], [], None, [0.3]], pa.list_(pa.float32())),
            "double": pa.array([0.1, 1 / 3, 0.1 + 0.2, 1.0]),
        },
    )
    rows = [row.values for row in read_file(path)]
    assert [row["single"] for row in rows] == written
    assert [row["half"] for row in rows] == [0.1, 0.2, 3.0, 4.0]
    assert [row["list"] for row in rows] == [[0.1], [], None, [0.3]]
    assert [row["double"] for row in rows] == [0.1, 1 / 3, 0.1 + 0.2, 1.0]


def test_damaged_tables_and_columns_of_one_name_are_told(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["q", "q"])
    with pytest.raises(ValueError, match="two columns 'q'"):
        list(read_file(table(tmp_path / "twice.parquet", twice)))
    path = table(tmp_path / "t.parquet", {"q": [f"question {i}" for i in range(500)]})
    content = bytearray(path.read_bytes())
    content[4:40] = b"\xff" * 36
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"t.parquet: no valid Parquet: [^\n]*$"):
        list(read_file(path))
