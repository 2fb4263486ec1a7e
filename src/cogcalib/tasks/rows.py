"""From a row of a data set to a question, as the task's file says."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cache
from string import Formatter, ascii_uppercase
from typing import Any

from cogcalib.records import CHAT, Example, Option, asked_text
from cogcalib.suggest import did_you_mean, hint_first
from cogcalib.tasks.prompt_rows import build_row_example, row_key
from cogcalib.tasks.read import Row
from cogcalib.tasks.task_file import ROWS, Definition, Options

_EXACT = 2**53
"""Floats below hold every integer exactly."""


class EqualOptionsError(ValueError):
    """Two options of a row that say the same."""


def question_key(definition: Definition, row: Row) -> str:
    """What makes two rows the same question, see `asked_text`."""
    if definition.kind == ROWS:
        return row_key(row)
    return asked_text(fill(definition.key or definition.question, row))


def content_id(key: str) -> str:
    """An identifier made of what is asked."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def build_example(definition: Definition, row: Row, split: str, id: str, preset: str) -> Example:
    """The question that a row holds.

    Args:
        definition: Of the task.
        row: One row.
        split: Goes into `Example.split`.
        id: Goes into `Example.id`.
        preset: Goes into `Example.preset`; a task may word its questions otherwise for it.

    Raises:
        ValueError: Naming file, row and column.
    """
    if definition.kind == ROWS:
        return build_row_example(definition.name, row, split, id)
    wording = definition.presets.get(preset.removesuffix(CHAT))
    question, options = definition.question, definition.options
    if wording is not None:
        question, options = wording.question or question, wording.options or options
    prompt = fill(question, row).strip()
    if not prompt:
        raise ValueError(f"{row.place}, {_named(columns_of(question))}: the question is empty")
    shown = None if options is None else _options(options, row)
    aliases: tuple[str, ...] = ()
    if shown is not None and options is not None:
        gold = shown[_position(definition.answer, options, row)]
        answer = gold.letter if definition.kind == "multiple-choice" else gold.text
        if definition.kind == "multiple-choice":
            _check_texts(shown, options, row, equal=definition.equal_options)
    else:
        answer, *others = accepted(definition.answer, row)
        aliases = tuple(others)
    if definition.aliases is not None:
        more = accepted(definition.aliases, row, least=0)
        aliases = tuple(dict.fromkeys(text for text in (*aliases, *more) if text != answer))
    if not answer.strip():
        raise ValueError(f"{row.place}, column {definition.answer!r}: the answer is empty")
    try:
        return Example(
            id=id,
            task=definition.name,
            split=split,
            prompt=prompt,
            options=shown if definition.kind == "multiple-choice" else None,
            answer=answer.strip(),
            aliases=aliases,
            context=text_of(definition.context, row) if definition.context else "",
            preset=preset,
        )
    except ValueError as error:
        raise ValueError(f"{row.place}: {error}") from error


def value_of(column: str, row: Row) -> Any:
    """A cell; ``a.b`` is column b inside column a.

    Raises:
        ValueError: If there is no such column.
    """
    if column in row.values:
        return row.values[column]
    value: Any = row.values
    for name in column.split("."):
        if not isinstance(value, Mapping) or name not in value:
            there = ", ".join(map(str, value)) if isinstance(value, Mapping) else "none"
            meant = did_you_mean(column, map(str, row.values))
            problem = f"{row.place}: no column {column!r}"
            raise ValueError(hint_first(problem, meant, f"there are {there}"))
        value = value[name]
    return value


def text_of(column: str, row: Row) -> str:
    """A cell that must hold one text, number or truth value.

    Raises:
        ValueError: If it holds nothing or something else.
    """
    value = value_of(column, row)
    if isinstance(value, str):
        return value
    if not _is_finite(value):
        raise ValueError(f"{row.place}, column {column!r}: must be text, got {value!r}")
    return plain(value)


def accepted(column: str, row: Row, *, least: int = 1) -> list[str]:
    """A cell with one text or a list of them; an empty cell holds none.

    Raises:
        ValueError: If there are fewer than `least`, or one of them is no text or empty.
    """
    value = value_of(column, row)
    blank = value is None or (isinstance(value, str) and not value.strip())
    values = [] if blank else value if isinstance(value, list) else [value]
    if len(values) < least or not all(isinstance(v, str) or _is_finite(v) for v in values):
        raise ValueError(
            f"{row.place}, column {column!r}: must be an answer or a list of them, got {value!r}"
        )
    texts = [plain(v) for v in values]
    if not all(text.strip() for text in texts):
        raise ValueError(f"{row.place}, column {column!r}: one of them is empty, got {value!r}")
    return texts


def _is_finite(value: Any) -> bool:
    """Whether a value is a number or truth value that can be written out."""
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def fill(template: str, row: Row) -> str:
    """A template with the row's cells for the column names."""
    return "".join(
        literal + (text_of(column, row) if column is not None else "")
        for literal, column in _parsed(template)
    )


def columns_of(*templates: str) -> list[str]:
    """The columns that templates name, each once."""
    found = [column for template in templates for _, column in _parsed(template)]
    return list(dict.fromkeys(column for column in found if column is not None))


@cache
def _parsed(template: str) -> tuple[tuple[str, str | None], ...]:
    return tuple((literal, column) for literal, column, _, _ in Formatter().parse(template))


def plain(value: str | int | float | bool) -> str:
    """A value as it is compared and shown: ``true``, ``3``, ``text``.

    A whole float is shown as an integer: pandas makes floats of integers in a column with gaps.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        value = int(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _options(options: Options, row: Row) -> tuple[Option, ...]:
    if options.column is not None:
        texts = accepted(options.column, row, least=2)
    elif options.blank is not None:
        sentence = text_of(options.blank, row)
        if sentence.count(options.mark) != 1:
            raise ValueError(
                f"{row.place}, column {options.blank!r}: must hold {options.mark!r} once, "
                f"got {sentence!r}"
            )
        texts = [sentence.replace(options.mark, text_of(c, row)) for c in options.fill or ()]
    else:
        texts = [fill(template, row) for template in options.texts or ()]
    labels = _labels(options, row)
    letters = options.letters or list(ascii_uppercase[: len(texts)])
    if not len(texts) == len(labels) == len(letters):
        where = options.column or "options"
        raise ValueError(
            f"{row.place}, column {where!r}: {len(texts)} options do not fit the "
            f"{len(labels)} labels {labels} and letters {letters}"
        )
    # A source whose labels are the letters 1 to 4 or a to d keeps them beside ours.
    own = isinstance(options.labels, str)
    return tuple(
        Option(letter, text.strip(), label if own and label != letter else "")
        for letter, text, label in zip(letters, texts, labels, strict=True)
    )


def _check_texts(shown: Sequence[Option], options: Options, row: Row, *, equal: bool) -> None:
    """Raise if an option is empty, or, unless `equal` may be, says what another one says."""
    first: dict[str, int] = {}
    for number, option in enumerate(shown):
        if not option.text:
            where = _named(_option_columns(options, number))
            raise ValueError(f"{row.place}, {where}: option {option.letter} is empty")
        before = first.setdefault(asked_text(option.text), number)
        if before != number and not equal:
            where = _named([*_option_columns(options, before), *_option_columns(options, number)])
            raise EqualOptionsError(
                f"{row.place}, {where}: options {shown[before].letter} and {option.letter} are "
                f"both {option.text!r}; only a task with equal_options: true may have such rows"
            )


def _option_columns(options: Options, number: int) -> list[str]:
    if options.column is not None:
        return [options.column]
    if options.fill is not None:
        return [options.fill[number]]
    return columns_of((options.texts or [])[number])


def _named(columns: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(columns))
    return f"column{'s' * (len(distinct) > 1)} {', '.join(map(repr, distinct))}"


def _labels(options: Options, row: Row) -> list[str]:
    labels: Sequence[Any] = (
        accepted(options.labels, row, least=2)
        if isinstance(options.labels, str)
        else options.labels
    )
    return [plain(label) for label in labels]


def _position(column: str, options: Options, row: Row) -> int:
    label, labels = text_of(column, row), _labels(options, row)
    if labels.count(label) != 1:
        raise ValueError(f"{row.place}, column {column!r}: must be one of {labels}, got {label!r}")
    return labels.index(label)
