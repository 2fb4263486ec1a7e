"""Rows divided into splits: filters, seeded draws by content, and repeats between splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cogcalib.tasks.read import Row
from cogcalib.tasks.rows import fill, plain, question_key, text_of
from cogcalib.tasks.splits import SPLITS
from cogcalib.tasks.task import Repeats
from cogcalib.tasks.task_file import Definition, Group, Split


@dataclass(frozen=True, slots=True)
class KeyedRow:
    """A row and the key of its question, see `question_key`."""

    key: str
    row: Row


def divide(
    definition: Definition, parts: Mapping[str, Sequence[Row]], group: Group | None
) -> tuple[dict[str, list[KeyedRow]], tuple[Repeats, ...]]:
    """Every split's rows, no question in two of them.

    Args:
        definition: Of the task.
        parts: Name -> rows.
        group: Keeps only its rows.

    Returns:
        Split -> rows in their original order, and what was dropped.

    Raises:
        ValueError: Naming file, row and column, or a split without any row.
    """
    only = {c: {plain(v) for v in values} for c, values in (group.only if group else {}).items()}
    asked = {
        name: [KeyedRow(question_key(definition, row), row) for row in rows if _wanted(only, row)]
        for name, rows in parts.items()
    }
    splits: dict[str, list[KeyedRow]] = {
        name: _drawn(definition, name, split, asked)
        for name, split in sorted(definition.splits.items(), key=lambda s: SPLITS.index(s[0]))
    }
    for name, rows in splits.items():
        if not rows:
            raise ValueError(f"{definition.name}: split {name} has no rows")
    try:
        return _without_repeats(splits)
    except ValueError as error:
        raise ValueError(f"{definition.name}: {error}") from error


def _wanted(only: Mapping[str, set[str]], row: Row) -> bool:
    return all(text_of(column, row) in values for column, values in only.items())


def _drawn(
    definition: Definition, name: str, split: Split, asked: Mapping[str, Sequence[KeyedRow]]
) -> list[KeyedRow]:
    rows = list(asked[split.part])
    together = definition.carve.together
    if split.without is not None:
        taken = {_unit(together, row) for row in asked[split.without]}
        rows = [row for row in rows if _unit(together, row) not in taken]
    if split.share is None:
        return rows
    # Splits of one part take neighbouring stretches of [0, 1), in the order of the file.
    low = 0.0
    for other, drawn in definition.splits.items():
        if other == name:
            break
        low += (drawn.share or 0.0) if drawn.part == split.part else 0.0
    high = low + split.share
    seed = definition.carve.seed
    return [row for row in rows if low <= _fraction(f"{seed}:{_unit(together, row)}") < high]


def _unit(together: str | None, asked: KeyedRow) -> str:
    return asked.key if together is None else fill(together, asked.row)


def _fraction(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48


def _without_repeats(
    splits: Mapping[str, list[KeyedRow]],
) -> tuple[dict[str, list[KeyedRow]], tuple[Repeats, ...]]:
    # What stands in a later split leaves the earlier one: test is never touched.
    kept: dict[str, list[KeyedRow]] = {}
    dropped = []
    order = list(splits)
    for position, name in enumerate(order):
        rows = splits[name]
        for later in reversed(order[position + 1 :]):
            keys = {row.key for row in splits[later]}
            repeats = [row for row in rows if row.key in keys]
            rows = [row for row in rows if row.key not in keys]
            if repeats:
                questions = len({row.key for row in repeats})
                dropped.append(Repeats(name, later, questions, len(repeats)))
        if not rows:
            told = ", ".join(
                f"{each.rows} in {each.found_in}" for each in dropped if each.split == name
            )
            raise ValueError(
                f"split {name} has no rows left: the questions of all of them stand in a later "
                f"split too ({told})"
            )
        kept[name] = rows
    return kept, tuple(dropped)
