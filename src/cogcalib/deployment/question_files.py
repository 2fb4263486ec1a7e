"""Questions as people keep them: files, lines from a pipe, or one typed; each a prediction's input.

Files are JSONL, CSV or Parquet with the keys of `cogcalib.deployment.inputs.to_questions` as
columns, and an ``id`` if they like. Nothing is kept: they are read row by row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogcalib.artifacts import parse_json
from cogcalib.records import InputError
from cogcalib.suggest import cut
from cogcalib.tasks.read import Row, read_file, typed_row

KINDS_OF_FILE = (".jsonl", ".csv", ".parquet")

PIPE = "standard input"


@dataclass(frozen=True, slots=True)
class QuestionRow:
    """One input and where it stands.

    Attributes:
        id: Its own, else its number.
        value: As `to_questions` takes it.
        place: For messages, such as ``questions.csv, row 3``.
    """

    id: Any
    value: Any
    place: str


def is_file_name(words: str) -> bool:
    """Whether what stands in the place of questions names a file, not a question."""
    try:
        there = Path(words).is_file()
    except OSError:  # too long to be a name
        there = False
    return there or (words.endswith(KINDS_OF_FILE) and not any(map(str.isspace, words)))


def read_question_file(path: Path) -> Iterator[QuestionRow]:
    """The rows of a file.

    Raises:
        ValueError: If it is missing, of another kind or damaged, naming the row.
    """
    for row in read_file(path):
        values = typed_row(row).values
        yield QuestionRow(_id(values, row.number), values, row.place)


def typed_question(words: str, *, worded: bool) -> QuestionRow:
    """One question typed.

    Args:
        words: A text, or a JSON object with the keys of a row.
        worded: Whether a text is a question that the preset words, not a whole prompt.

    Raises:
        InputError: If it begins like a JSON object and is none.
    """
    return _of_line(words, 1, "the question", worded=worded, objects=words.lstrip().startswith("{"))


def arriving_rows(descriptor: int, *, worded: bool) -> Iterator[list[QuestionRow]]:
    """The lines of a pipe, as many at once as have come.

    All of them are JSON objects if the first is one; otherwise each is a question.

    Args:
        descriptor: Of the open file.
        worded: As `typed_question`.

    Raises:
        InputError: Naming the line that cannot be used.
    """
    objects: bool | None = None
    number = 0
    for lines in _arriving_lines(descriptor):
        rows = []
        for line in lines:
            number += 1
            place = f"{PIPE}, line {number}"
            text = _decoded(line, place, first=number == 1)
            if objects is None:
                objects = text.lstrip().startswith("{")
            rows.append(_of_line(text, number, place, worded=worded, objects=objects))
        yield rows


def _of_line(text: str, number: int, place: str, *, worded: bool, objects: bool) -> QuestionRow:
    if not objects:
        if not text.strip():
            raise InputError(f"{place}: there is no question")
        return QuestionRow(number, {"question": text.strip()} if worded else text, place)
    try:
        values = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: no valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{place}: must be a JSON object, as the first line, got {cut(text)}")
    row = Row.of(values, place, number)
    return QuestionRow(_id(row.values, number), row.values, place)


def _decoded(line: bytes, place: str, *, first: bool) -> str:
    try:
        return line.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: no UTF-8 text, save it as UTF-8: {error}") from error


def _arriving_lines(descriptor: int) -> Iterator[Sequence[bytes]]:
    rest = b""
    while piece := os.read(descriptor, 2**16):
        *lines, rest = (rest + piece).split(b"\n")
        if lines:
            yield [line.removesuffix(b"\r") for line in lines]
    if rest:
        yield [rest.removesuffix(b"\r")]


def _id(values: Mapping[str, Any], number: int) -> Any:
    own = values.get("id")
    return number if own is None or own == "" else own
