"""Prediction files: what is written comes back, and what does not fit is named."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogcalib.records import Prediction
from cogcalib.scoring import read_predictions, write_predictions
from cogcalib.scoring.prediction_files import check_output

GOOD = {
    "id": "q1",
    "task": "t",
    "split": "test",
    "answer": "A",
    "prediction": "B",
    "correct": False,
    "nll": 1.5,
    "confidence": {"vocab": 0.5, "options": 0.75},
    "option_logprobs": [-1.5, -0.5],
    "model": "m",
    "run": "r",
}

fractions = st.floats(0, 1)
predictions = st.builds(
    Prediction,
    id=st.uuids().map(str),
    task=st.just("t"),
    split=st.just("test"),
    answer=st.text(),
    prediction=st.text(),
    correct=st.booleans(),
    nll=st.floats(0, 50) | st.just(float("inf")),
    confidence=st.fixed_dictionaries({"mean": fractions, "joint": fractions}),
    option_logprobs=st.none(),
    model=st.text(),
    run=st.text(),
)
predictions = predictions.map(
    lambda row: replace(row, correct=row.correct or row.prediction == row.answer)
) | st.builds(
    replace,
    predictions,
    answer=st.just("A"),
    prediction=st.just("B"),
    correct=st.just(False),
    confidence=st.fixed_dictionaries({"vocab": fractions}),
    option_logprobs=st.lists(st.floats(-90, 0), max_size=4).map(tuple),
)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@given(rows=st.lists(predictions, min_size=1, max_size=4, unique_by=lambda row: row.id))
def test_predictions_come_back_as_they_were(tmp_path_factory, ending, rows):
    path = tmp_path_factory.mktemp("files") / "new folder" / f"rows.{ending}"
    assert write_predictions(path, rows) == path
    assert read_predictions(path) == rows
    assert [file.name for file in path.parent.iterdir()] == [path.name], "no leftovers"
    with pytest.raises(ValueError, match="already exists"):
        write_predictions(path, rows[:1])
    assert read_predictions(path) == rows


@pytest.mark.parametrize("name", ["rows.csv", "rows", "rows.json"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"output must end in \.jsonl or \.parquet"):
        check_output(tmp_path / name)
    (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=r"must end in \.jsonl or \.parquet"):
        read_predictions(tmp_path / name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": ""}, "id must be a string that is not empty, got ''"),
        ({"task": 3}, "task must be a string, got 3"),
        ({"prediction": None}, "prediction must be a string, got None"),
        ({"correct": 1}, "correct must be true or false, got 1"),
        ({"nll": -0.1}, "nll must be a number of nats, 0 or more, got -0.1"),
        ({"nll": float("nan")}, "nll must be a number of nats, 0 or more, got nan"),
        ({"nll": True}, "nll must be a number"),
        ({"confidence": {}}, "confidence must be an object of definition -> fraction"),
        ({"confidence": 0.5}, "confidence must be an object of definition -> fraction"),
        ({"confidence": {"vocab": 50.0}}, r"confidence must .* got \{'vocab': 50.0\}"),
        ({"option_logprobs": [0.5]}, "option_logprobs must be a list of log-probabilities"),
        ({"option_logprobs": "-1"}, "option_logprobs must be a list of log-probabilities"),
        ({"logprobs": []}, "unknown key 'logprobs'; the keys are id, task"),
        ({"nll": ...}, "key 'nll' is missing"),
        ({"nll": ..., "model": ..., "run": ...}, "keys 'nll', 'model', 'run' are missing"),
        ({"confidence": {"mine": 0.5}}, r"confidence must have at least one of .*\['mine'\]"),
        ({"correct": True}, "correct is true, but the prediction is 'B' and the answer 'A'"),
        ({"prediction": "A"}, "correct is false, but prediction and answer are both 'A'"),
        (
            {"option_logprobs": None, "correct": True},
            "correct is true, but the prediction is 'B' and the answer 'A'",
        ),
        ({"id": "q0"}, "id must be distinct, 'q0' comes more than once"),
    ],
)
def test_a_wrong_value_is_named_with_file_row_and_key(tmp_path, change, message):
    bad = {key: value for key, value in {**GOOD, **change}.items() if value is not ...}
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [{**GOOD, "id": "q0"}, bad]))
    with pytest.raises(ValueError, match=f"rows.jsonl, row 2: {message}"):
        read_predictions(path)


@pytest.mark.parametrize("key", ["task", "split", "model", "run"])
def test_one_question_may_come_once_for_each_run(tmp_path, key):
    path = tmp_path / "rows.jsonl"
    rows = [GOOD, {**GOOD, key: "another"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [getattr(row, key) for row in read_predictions(path)] == [GOOD[key], "another"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no row"),
        ("[1]\n", "row 1: must be an object"),
        ("{\n", "row 1: no valid"),
        ("\n{}\n", "row 1: no valid JSON: the line is empty"),
        ("\ud800", "rows.jsonl, row 1: no UTF-8 text"),
    ],
)
def test_a_broken_file_is_named(tmp_path, text, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(ValueError, match=message):
        read_predictions(path)


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    path = tmp_path / "rows.parquet"
    path.write_text("no parquet")
    with pytest.raises(ValueError, match=r"rows\.parquet: no valid Parquet file"):
        read_predictions(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_predictions(Path("absent.jsonl"))


def test_parquet_of_others_with_a_struct_of_definitions_is_read(tmp_path):
    rows = [GOOD, {**GOOD, "id": "q2", "confidence": {"mean": 0.25}}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    found = read_predictions(tmp_path / "rows.parquet")
    assert [asdict(row)["confidence"] for row in found] == [GOOD["confidence"], {"mean": 0.25}]


def test_questions_are_no_predictions(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"prompt": "p", "completion": " c"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"row 1: not a prediction .* got prompt, completion$"):
        read_predictions(path)
