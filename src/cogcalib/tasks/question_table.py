"""A table of a user's own questions, without a task file; of any size, read row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from cogcalib.records import PRESETS, Example, check_preset
from cogcalib.suggest import any_meant, hint_first, slip
from cogcalib.tasks.read import SEPARATOR, Row, TablePlace, read_from, typed_row
from cogcalib.tasks.rows import accepted, build_example, content_id, question_key, text_of
from cogcalib.tasks.task import Task
from cogcalib.tasks.task_file import Definition, Part, Source, Split

COLUMNS = ("question", "answer", "aliases", "group", "id")
"""Columns of the table; the first two must be there, and others are not looked at."""

KINDS = (".jsonl", ".parquet", ".csv")
"""Files a folder of tables is looked through for."""


class Asked(NamedTuple):
    """A question and its group, which is empty where the table has none."""

    example: Example
    group: str


class QuestionTable:
    """Open-ended questions in a CSV, JSONL or Parquet file, or in a folder of such files.

    Nothing is kept: every reading goes through the files again. It can be pickled.

    Args:
        path: Of the file, or of the folder, whose files are read in the order of their names.
        prompt: Preset that words the questions.

    Attributes:
        name: Of the questions' task, made of the file's.
        grouped, identified: Whether there is a column ``group``, and one ``id``.

    Raises:
        ValueError: If the preset is unknown, the file is missing, empty or of another kind, has no
            columns ``question`` and ``answer``, or answers that are letters of options.
    """

    def __init__(self, path: Path | str, *, prompt: str = PRESETS[0]) -> None:
        self.path, self.preset = Path(path), prompt
        check_preset(prompt)
        self.files = _files(self.path)
        self.name = file_name(self.path)
        _, first = next(self._rows(TablePlace()), (None, None))
        if first is None:
            raise ValueError(f"{self.path}: there is no row")
        _check_columns(self.path, first)
        self.grouped, self.identified = "group" in first.values, "id" in first.values
        self._definition = Definition(
            name=self.name,
            description=f"questions of {self.path.name}",
            kind="open-ended",
            source=Source(parts={"all": Part(file=self.path.name)}),
            question="{question}",
            answer="answer",
            aliases="aliases",
            splits={"train": Split(part="all")},
        )

    def read(self, start: TablePlace | None = None) -> Iterator[tuple[TablePlace, Asked]]:
        """The questions from one on, each with where its row begins.

        Raises:
            ValueError: If a row cannot be used, naming file, row and column.
        """
        for place, row in self._rows(start or TablePlace()):
            yield place, self._asked(row)

    def everywhere(self) -> QuestionTable:
        """The same for a process that stands in another folder."""
        table = copy(self)
        table.path = self.path.resolve()
        table.files = [file.resolve() for file in self.files]
        return table

    def _rows(self, start: TablePlace) -> Iterator[tuple[TablePlace, Row]]:
        for number in range(start.file, len(self.files)):
            begin = start if number == start.file else TablePlace(number)
            yield from read_from(self.files[number], begin)

    def _asked(self, row: Row) -> Asked:
        values = dict(row.values)
        given = values.get("group")
        group = "" if given is None else " ".join(text_of("group", row).split())
        if ("group" in values) != self.grouped or (self.grouped and not group):
            raise ValueError(f"{row.place}, column 'group': must name a group, or no row may")
        aliases = values.get("aliases")
        if aliases is None:
            aliases = []
        if isinstance(aliases, str):
            aliases = [each.strip() for each in aliases.split(SEPARATOR) if each.strip()]
        row = replace(row, values={**values, "aliases": aliases})
        key = question_key(self._definition, row)
        # The same question may have another answer, or stand in another group.
        content = content_id("\n".join((key, *accepted("answer", row), group)))
        id = self._own_id(row) if self.identified or "id" in values else content
        return Asked(build_example(self._definition, row, "train", id, self.preset), group)

    def _own_id(self, row: Row) -> str:
        id = text_of("id", row).strip() if row.values.get("id") is not None else ""
        if not self.identified or not id:
            raise ValueError(f"{row.place}, column 'id': must name the question, or no row may")
        return id


def load_table(path: Path | str, *, prompt: str = PRESETS[0]) -> Task:
    """All questions of a `QuestionTable` at once, as a task.

    Args:
        path: Of the file or folder. ``aliases`` holds further accepted answers: in a CSV separated
            by ``|``, else a list.
        prompt: Preset that words the questions.

    Returns:
        A task with one split, ``train``, named like the file. A question's id is that of the
        column ``id``, or else made of its wording, answer and group; then a row that repeats all
        three has the same.

    Raises:
        ValueError: As `QuestionTable` and `QuestionTable.read`, or if two rows have the same in a
            column ``id``.
    """
    table = QuestionTable(path, prompt=prompt)
    asked = [each for _, each in table.read()]
    ids = Counter(each.example.id for each in asked)
    if table.identified and (twice := [id for id, count in ids.items() if count > 1]):
        raise ValueError(f"{path}: two rows have the id {twice[0]!r}")
    return Task(
        name=table.name,
        description=f"questions of {table.path.name}",
        licence="not stated",
        splits={"train": [each.example for each in asked]},
        source=str(path),
        group_of={each.example.id: each.group for each in asked if each.group},
    )


def _check_columns(path: Path, first: Row) -> None:
    """Check that a table holds open-ended questions, by its first row.

    Raises:
        ValueError: Naming the column that is missing or misspelt, or the way for another kind.
    """
    values = first.values
    way = "goes into a task file of kind {} (docs/tasks.md), given as task (--task FILE.yaml)"
    if {"prompt", "completion"} <= values.keys() or "messages" in values:
        raise ValueError(
            f"{path}: holds rows to train on, not questions to be worded; such a table "
            f"{way.format('prompt-completion')}"
        )
    if missing := [column for column in COLUMNS[:2] if column not in values]:
        choice = (
            f"; one with options {way.format('multiple-choice')}" if "options" in values else ""
        )
        raise ValueError(
            hint_first(
                f"{path}: {missing[0]!r} is missing",
                any_meant(values, COLUMNS[:2]),
                "a table needs the columns question and answer, and may have aliases, group and "
                f"id{choice}; there are {', '.join(sorted(values))}",
            )
        )
    if told := slip(values, ("aliases", "group")):
        raise ValueError(f"{path}: the column {told}")
    if _names_an_option(first):
        raise ValueError(
            f"{path}: the answer names one of the options, which a table's questions do not show; "
            f"such a table {way.format('multiple-choice')}"
        )


def _names_an_option(row: Row) -> bool:
    """Whether a row's answer is the letter or label of an option, and not its text."""
    given = typed_row(row).values.get("options")
    texts = given.values() if isinstance(given, Mapping) else given
    if not isinstance(texts, Iterable) or isinstance(texts, str):
        return False
    shown = {str(text).strip() for text in texts}
    return bool(shown) and shown.isdisjoint(accepted("answer", row))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in KINDS)
    if not files:
        raise ValueError(f"{path}: the folder holds no file ending in {', '.join(KINDS)}")
    return files


def file_name(path: Path) -> str:
    """The file's name as a task may be called."""
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in path.stem.lower())
    return plain.strip("-") or "questions"
