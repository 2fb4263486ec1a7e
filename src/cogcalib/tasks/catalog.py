"""The tasks that come with the package: their names, and what is known of them without loading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from cogcalib.tasks import atlas
from cogcalib.tasks.task_file import Definition, Group, read_definition


@dataclass(frozen=True, slots=True)
class Summary:
    """A line of ``cogcalib tasks``.

    Attributes:
        name: Of the task.
        description: One line.
        licence: Of the data.
        rows: Split -> rows that loading gives, as far as known.
    """

    name: str
    description: str
    licence: str
    rows: Mapping[str, int]


@cache
def definitions() -> dict[str, Definition]:
    """Name -> definition of every task file shipped."""
    folder = Path(str(files("cogcalib"))) / "tasks" / "definitions"
    found = [read_definition(path) for path in sorted(folder.glob("*.yaml"))]
    return {definition.name: definition for definition in found}


def task_names() -> list[str]:
    """Names that `load_task` accepts, groups included."""
    names = list(atlas.TASKS)
    for name, definition in definitions().items():
        names += [name, *(f"{name}/{group}" for group in definition.groups)]
    return names


def find(name: str) -> tuple[Definition, Group | None]:
    """Definition and group of a shipped task that is not generated."""
    whole, _, group = name.partition("/")
    definition = definitions()[whole]
    return definition, definition.groups[group] if group else None


def group_name(task: str, group: str) -> str:
    """What a group of a shipped task is called: ``country (P17)``; as it is where none has it."""
    definition = definitions().get(task)
    found = definition.groups.get(group) if definition else None
    return f"{found.description.rpartition(', ')[2]} ({group})" if found else group


def summaries() -> list[Summary]:
    """All tasks, without loading any data set."""
    lines = []
    for name in task_names():
        if name in atlas.TASKS:
            task = atlas.load(name)
            rows = {split: len(examples) for split, examples in task.splits.items()}
            lines.append(Summary(name, task.description, task.licence, rows))
            continue
        definition, group = find(name)
        lines.append(
            Summary(
                name,
                group.description if group else definition.description,
                definition.licence,
                expected_rows(definition, group),
            )
        )
    return lines


def expected_rows(definition: Definition, group: Group | None) -> dict[str, int]:
    """Split -> how many examples it must have, for those that say so."""
    if group is not None:
        return {str(split): rows for split, rows in group.rows.items()}
    return {str(s): spec.rows for s, spec in definition.splits.items() if spec.rows is not None}
