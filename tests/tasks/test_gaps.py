"""Gaps are empty, whole floats are integers, and what is no answer is refused; in every format."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cogcalib.scoring import read_predictions
from cogcalib.tasks import load_table, load_task

NAN = float("nan")


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_a_table_of_pandas(tmp_path: Path, ending: str) -> None:
    rows = [
        {"question": "When?", "answer": 1969.0, "aliases": NAN, "id": 1.0, "group": 2.0},
        {"question": "When else?", "answer": -0.0, "aliases": 69.0, "id": 2.0, "group": 2.0},
        {"question": "How much?", "answer": 2.5, "aliases": 0.0, "id": 3.0, "group": 2.0},
    ]
    (task,) = [load_table(write(tmp_path / f"t{ending}", rows))]
    found = [(e.id, e.answer, e.aliases) for e in task.splits["train"]]
    assert found == [("1", "1969", ()), ("2", "0", ("69",)), ("3", "2.5", ("0",))]
    assert set(task.group_of.values()) == {"2"}


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_nan_as_text_is_text(tmp_path: Path, ending: str) -> None:
    rows = [{"question": "Grandmother?", "answer": "NaN", "aliases": ["nan", "None"], "id": "null"}]
    (example,) = load_table(write(tmp_path / f"t{ending}", rows)).splits["train"]
    assert (example.id, example.answer, example.aliases) == ("null", "NaN", ("nan", "None"))
    (tmp_path / "t.csv").write_text("question,answer,aliases\nGrandmother?,nan,NaN|None\n")
    (example,) = load_table(tmp_path / "t.csv").splits["train"]
    assert (example.answer, example.aliases) == ("nan", ("NaN", "None"))


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("answer", NAN),
        ("answer", None),
        ("answer", math.inf),
        ("answer", -math.inf),
        ("answer", ["Lima", None]),
        ("answer", []),
        ("answer", " "),
        ("aliases", math.inf),
        ("aliases", ["x", None]),
        ("aliases", {"a": "b"}),
        ("question", NAN),
        ("question", None),
        ("group", math.inf),
        ("group", ["a"]),
        ("group", NAN),
        ("id", NAN),
        ("id", math.inf),
    ],
)
def test_what_is_no_text_is_named(tmp_path: Path, ending: str, column: str, value: Any) -> None:
    row = {"question": "Q?", "answer": "a", "aliases": ["b"], "group": "g", "id": "1"}
    path = write(tmp_path / f"t{ending}", [row | {column: value}])
    with pytest.raises(ValueError, match=rf"row 1, column '{column}'"):
        load_table(path)


@pytest.mark.parametrize("options", [["a", None], ["a", NAN], ["a", math.inf], ["a", ""], None])
def test_options_have_no_gaps(tmp_path: Path, options: Any) -> None:
    rows = [{"q": "Q?", "o": options, "a": "A"}]
    write(tmp_path / "q.jsonl", rows)
    (tmp_path / "q.yaml").write_text(
        "name: mine\ndescription: mine\nkind: multiple-choice\n"
        "source: {parts: {all: {file: q.jsonl}}}\n"
        'question: "{q}"\noptions: {column: o, labels: [A, B]}\nanswer: a\n'
        "splits: {test: {part: all}}\n"
    )
    with pytest.raises(ValueError, match="row 1, column 'o'"):
        load_task(tmp_path / "q.yaml")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"question": "Q?", "answer": ' + "9" * 400 + "}", None),
        ('{"question": "Q?", "answer": 1e400}', "column 'answer'"),
        ('{"question": "Q?", "answer": ' + "9" * 5000 + "}", "row 1: no valid JSON"),
        ("[" * 100_000, "row 1: no valid JSON"),
        ('{"question": ' + '{"a": ' * 50_000, "row 1: no valid JSON"),
        ('{"question": "caf\xe9", "answer": "a"}', "row 1: no UTF-8 text"),
    ],
)
def test_deep_long_and_foreign_lines(tmp_path: Path, line: str, what: str | None) -> None:
    (tmp_path / "t.jsonl").write_bytes(line.encode("latin-1") + b"\n")
    if what is None:
        assert load_table(tmp_path / "t.jsonl").splits["train"][0].answer == "9" * 400
        return
    with pytest.raises(ValueError, match=what):
        load_table(tmp_path / "t.jsonl")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", 1.0),
        ("id", NAN),
        ("answer", NAN),
        ("answer", None),
        ("prediction", 1969.0),
        ("correct", 1.0),
        ("nll", NAN),
        ("nll", None),
        ("nll", 10**400),
        ("confidence", NAN),
        ("confidence", {"mean": NAN}),
        ("confidence", {"mean": math.inf}),
        ("confidence", {"mean": "0.9"}),
        ("option_logprobs", [NAN, -1.0]),
        ("option_logprobs", [-(10**400)]),
        ("model", NAN),
    ],
)
def test_predictions_are_read_back_without_gaps(tmp_path: Path, key: str, value: Any) -> None:
    row = {
        "id": "q", "task": "t", "split": "test", "answer": "NaN", "prediction": "nan",
        "correct": True, "nll": 0.5, "confidence": {"mean": 0.9}, "option_logprobs": None,
        "model": "m", "run": "r",
    }  # fmt: skip
    assert read_predictions(write(tmp_path / "p.jsonl", [row]))[0].prediction == "nan"
    with pytest.raises(ValueError, match=rf"row 1: {key} must be"):
        read_predictions(write(tmp_path / "p.jsonl", [row | {key: value}]))
