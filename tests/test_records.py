"""The contracts between rooms."""

from __future__ import annotations

import errno
import json
import math
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogcalib.jsonl import read_jsonl, write_jsonl
from cogcalib.records import (
    KNOWLEDGE,
    Example,
    InputError,
    Option,
    Prediction,
    ProbeRecord,
    Threshold,
    input_errors,
    write_json,
    write_text,
)

QUESTION = Example(
    "q1",
    "t",
    "test",
    "Which?",
    (Option("A", "one"), Option("B", "two"), Option("C", "three"), Option("D", "four")),
    "B",
)


@given(st.permutations(range(4)))
def test_reordering_moves_texts_under_fixed_letters(order: list[int]) -> None:
    moved = QUESTION.reordered(order)
    assert moved.answer_text == "two"
    assert [option.letter for option in moved.options or ()] == list("ABCD")
    assert moved.content_hash() == QUESTION.content_hash()
    back = [order.index(position) for position in range(4)]
    assert moved.reordered(back) == QUESTION


@pytest.mark.parametrize("order", [[0, 1, 2], [0, 0, 1, 2], [1, 2, 3, 4]])
def test_reordering_wants_a_permutation(order: list[int]) -> None:
    with pytest.raises(ValueError, match=r"permutation of 0\.\.3"):
        QUESTION.reordered(order)


def test_open_ended_questions_have_no_order() -> None:
    example = Example("q", "t", "test", "Which?", None, "two")
    assert example.answer_text == "two"
    with pytest.raises(ValueError, match="open-ended"):
        example.reordered([0])


@pytest.mark.parametrize(
    ("prompt", "options", "answer", "what"),
    [
        (" ", None, "x", "prompt is empty"),
        ("q", None, " ", "answer is empty"),
        ("q", (Option("A", "x"),), "A", "at least two distinct letters"),
        ("q", (Option("A", "x"), Option("A", "y")), "A", "at least two distinct letters"),
        ("q", (Option("A", "x"), Option("B", "y")), "C", "one of the option letters"),
    ],
)
def test_unsound_examples_are_refused(
    prompt: str, options: tuple[Option, ...] | None, answer: str, what: str
) -> None:
    with pytest.raises(ValueError, match=what):
        Example("q7", "t", "test", prompt, options, answer)


def test_rows_read_back(tmp_path: Path) -> None:
    prediction = Prediction(
        "q1", "t", "test", "B", "A", False, 0.25, {"vocab": 0.5}, (-1.0, -2.0), "m", "r"
    )
    assert read_jsonl(write_jsonl(tmp_path / "p.jsonl", [prediction]), Prediction) == [prediction]
    examples = [QUESTION, Example("q2", "t", "test", "Wo?\u2028", None, "Köln", ("Cologne",))]
    assert read_jsonl(write_jsonl(tmp_path / "e.jsonl", examples), Example) == examples
    thresholds = [Threshold(math.inf, 0.0, 1.0, 3, 0, step=7)]
    assert read_jsonl(write_jsonl(tmp_path / "t.jsonl", thresholds), Threshold) == thresholds


@pytest.mark.parametrize("line", ["{", '{"id": "x"}', '{"idd": 1}', "[1]"])
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, line: str) -> None:
    path = write_jsonl(tmp_path / "e.jsonl", [QUESTION])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=r"e\.jsonl, row 2: no valid"):
        read_jsonl(path, Example)


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    path = write_text(tmp_path / "new" / "a.txt", "old")
    with pytest.raises(TypeError):
        write_json(path, {"x": object()})
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "old"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]
    write_json(path, {"x": math.inf})
    assert json.loads(path.read_text()) == {"x": math.inf}


def test_a_probe_record_has_one_vocabulary() -> None:
    rows = [ProbeRecord("q", category, 0.5, 0.5, 1.0, "slick") for category in KNOWLEDGE]
    assert [row.known for row in rows] == [True, False, False]
    assert [row.unknown for row in rows] == [False, False, True]
    with pytest.raises(ValueError, match="one of known, doubtful, unknown, got 'H"):
        ProbeRecord("q", "HighlyKnown", 1.0, 0.9, 0.1)


def test_probe_rows_written_before_the_source_was_kept_are_read(tmp_path: Path) -> None:
    row = {"id": "q", "category": "doubtful", "share_right": 0.5, "p_gold": 0.4, "nll": 1.0}
    write_jsonl(tmp_path / "train.jsonl", [row])
    (read,) = read_jsonl(tmp_path / "train.jsonl", ProbeRecord)
    assert (read.category, read.source) == ("doubtful", "")
    write_jsonl(tmp_path / "train.jsonl", [row | {"category": "MaybeKnown"}])
    with pytest.raises(ValueError, match=r"train\.jsonl, row 1: .*got 'MaybeKnown'"):
        read_jsonl(tmp_path / "train.jsonl", ProbeRecord)


@pytest.mark.parametrize("cause", [ValueError("no such row"), OSError(errno.EACCES, "denied", "f")])
def test_an_input_error_has_one_traceback_to_where_it_was_found(cause: Exception) -> None:
    def check() -> None:
        raise cause

    with pytest.raises(InputError) as told, input_errors():
        check()
    shown = "".join(traceback.format_exception(told.value))
    assert "direct cause" not in shown
    assert "During handling" not in shown
    assert shown.count("Traceback") == 1
    assert "in check" in shown
