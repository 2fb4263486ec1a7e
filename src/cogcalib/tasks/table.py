"""A table of one's own questions, without any task file."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from cogcalib.records import PRESETS, check_preset
from cogcalib.tasks.divide import Asked
from cogcalib.tasks.load import build_examples
from cogcalib.tasks.read import Row, read_file
from cogcalib.tasks.rows import question_key
from cogcalib.tasks.schema import Definition, Part, Source, Split
from cogcalib.tasks.task import Task

COLUMNS = ("question", "answer", "aliases", "group")
"""Columns of the table; the first two must be there, and others are not looked at."""

SEPARATOR = "|"
"""Between the aliases in one cell of a CSV."""


def load_table(path: Path | str, *, prompt: str = PRESETS[0]) -> Task:
    """Open-ended questions from a CSV, JSONL or Parquet file with the columns of `COLUMNS`.

    Args:
        path: Of the file. ``aliases`` holds further accepted answers: in a CSV separated by ``|``,
            else a list.
        prompt: Preset that words the questions.

    Returns:
        A task with one split, ``train``, named like the file.

    Raises:
        ValueError: If the preset is unknown, the file is missing, empty or of another kind, or a
            row cannot be used (naming file, row and column).
    """
    path = Path(path)
    check_preset(prompt)
    rows = list(read_file(path))
    if not rows:
        raise ValueError(f"{path}: there is no row")
    there = {column for row in rows for column in row.values}
    if missing := [column for column in COLUMNS[:2] if column not in there]:
        raise ValueError(
            f"{path}: needs the columns question and answer (and may have aliases and group), "
            f"{missing[0]!r} is missing; there are {', '.join(sorted(there))}"
        )
    definition = Definition(
        name=_name(path),
        description=f"questions of {path.name}",
        kind="open-ended",
        source=Source(parts={"all": Part(file=path.name)}),
        question="{question}",
        answer="answer",
        aliases="aliases" if "aliases" in there else None,
        group="{group}" if "group" in there else None,
        splits={"train": Split(part="all")},
    )
    read = [_prepared(row, there) for row in rows]
    asked = [Asked(question_key(definition, row), row) for row in read]
    group_of: dict[str, str] = {}
    examples = build_examples(definition, asked, "train", prompt, Counter(), group_of)
    return Task(
        name=definition.name,
        description=definition.description,
        licence=definition.licence,
        splits={"train": examples},
        source=str(path),
        group_of=group_of,
    )


def _prepared(row: Row, there: set[str]) -> Row:
    """The row with its aliases as a list; JSONL rows may leave optional columns out."""
    values = dict(row.values)
    if "group" in there and not str(values.get("group") or "").strip():
        raise ValueError(f"{row.place}, column 'group': must name a group, or no row may")
    aliases = values.get("aliases")
    if isinstance(aliases, str):
        values["aliases"] = [each.strip() for each in aliases.split(SEPARATOR) if each.strip()]
    elif aliases is None:
        values["aliases"] = []
    return replace(row, values=values)


def _name(path: Path) -> str:
    """The file's name as a task may be called."""
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in path.stem.lower())
    return plain.strip("-") or "questions"
