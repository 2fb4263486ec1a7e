"""Load a task: shipped or a user's own, from the hub or from a local folder."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cogcalib import hub
from cogcalib.records import PRESETS, Example, check_preset
from cogcalib.suggest import did_you_mean
from cogcalib.tasks import atlas, catalog
from cogcalib.tasks.divide import KeyedRow, divide
from cogcalib.tasks.prompt_rows import check_alike
from cogcalib.tasks.question_table import file_name
from cogcalib.tasks.read import read_part, typed_row
from cogcalib.tasks.rows import EqualOptionsError, build_example, content_id, fill, text_of
from cogcalib.tasks.task import Task
from cogcalib.tasks.task_file import ROWS, Definition, Group, Part, Source, Split, read_definition

DATA_FOLDER = "COGCALIB_DATA"
"""Environment variable that names the folder of local data sets."""


def load_task(
    name: str | Path, data_dir: Path | str | None = None, *, prompt: str = PRESETS[0]
) -> Task:
    """Load a task.

    Args:
        name: One of `task_names()`, or the path of a task file (``*.yaml``) of your own.
        data_dir: Folder of local data sets, one per data set; without, the folder that
            $COGCALIB_DATA names; without that, the Hugging Face hub. The embedded atlas tasks and
            the files a task file of your own names need none.
        prompt: Preset that words the questions, such as ``blob`` or ``cogcalib+chat``.

    Returns:
        The task. No question stands in two of its splits: what the data set repeats was dropped
        from the earlier of train, calibration, test, and is counted in `Task.dropped`.

    Raises:
        ValueError: If there is no such task, folder or preset; a row cannot be used (naming file,
            row and column); or the data has other numbers of rows than the task expects.
    """
    check_preset(prompt)
    if data_dir is not None and not Path(data_dir).is_dir():
        raise ValueError(f"data_dir must be an existing folder, got {str(data_dir)!r}")
    if Path(name).suffix in (".yaml", ".yml"):
        path = Path(name)
        definition = read_definition(path)
        return _load(definition, None, path.parent, prompt)
    if str(name) not in catalog.task_names():
        whole = [*atlas.TASKS, *catalog.definitions()]
        table = Path(name).suffix in (".jsonl", ".csv", ".parquet")
        meant = did_you_mean(str(name), catalog.task_names())
        hint = "; a file of rows goes with data, or into a task file (docs/tasks.md)"
        raise ValueError(
            f"task must be one of {', '.join(whole)}, a group such as mmlu/law, or a path ending "
            f"in .yaml, got {str(name)!r}{hint if table else meant}"
        )
    if str(name) in atlas.TASKS:
        return _with_preset(atlas.load(str(name)), prompt)
    definition, group = catalog.find(str(name))
    return _load(definition, group, _data_folder(data_dir), prompt, str(name))


def load_rows(path: Path | str) -> Task:
    """Rows to train on as a task with one split, ``test``, as they are written.

    Args:
        path: JSONL or Parquet file of ``prompt`` and ``completion``, or ``messages``, and perhaps
            ``options``, as `cogcalib.CogCalibTrainer` takes them.

    Returns:
        A task that is named like the file.

    Raises:
        ValueError: If the file is missing or empty, or a row cannot be used, naming file and row.
    """
    path = Path(path)
    definition = Definition(
        name=file_name(path),
        description=f"rows of {path.name}",
        kind=ROWS,
        source=Source(parts={"all": Part(file=path.name)}),
        splits={"test": Split(part="all")},
    )
    return _load(definition, None, path.parent, PRESETS[0])


def own_name(name: str) -> str:
    """The name of a task as its examples bear it: of a task file, the name that it gives itself.

    Raises:
        ValueError: If it is a task file that cannot be read.
    """
    path = Path(name)
    return read_definition(path).name if path.suffix in (".yaml", ".yml") else name


def check_data_reachable(names: Iterable[str], data_dir: Path | str | None) -> None:
    """Refuse shipped tasks whose data only the hub can have while it cannot be reached.

    Raises:
        InputError: Naming the first data set that cannot be had.
    """
    if data_dir is not None or os.environ.get(DATA_FOLDER):
        return
    for name in names:
        if name in catalog.task_names() and name not in atlas.TASKS:
            definition, _ = catalog.find(name)
            if definition.source.hub is not None:
                hub.check_data_reachable(definition.source.hub)


def _data_folder(data_dir: Path | str | None) -> Path | None:
    if data_dir is not None:
        return Path(data_dir)
    named = os.environ.get(DATA_FOLDER)
    if named and not Path(named).is_dir():
        raise ValueError(f"{DATA_FOLDER} must name an existing folder, got {named!r}")
    return Path(named) if named else None


def _with_preset(task: Task, preset: str) -> Task:
    splits = {
        split: [e if e.preset == preset else replace(e, preset=preset) for e in examples]
        for split, examples in task.splits.items()
    }
    return replace(task, splits=splits)


def _load(
    definition: Definition,
    group: Group | None,
    folder: Path | None,
    preset: str,
    name: str | None = None,
) -> Task:
    named = definition.model_copy(update={"name": name or definition.name})
    needed = {p for s in named.splits.values() for p in (s.part, s.without) if p is not None}
    parts = {part: read_part(named.source, part, folder) for part in sorted(needed)}
    if named.kind == ROWS:
        if preset != PRESETS[0]:
            raise ValueError(
                f"prompt: {named.name} has rows that stand as they are written; leave out "
                f"{preset!r}"
            )
        parts = {part: [typed_row(row) for row in rows] for part, rows in parts.items()}
        check_alike([row for rows in parts.values() for row in rows])
    divided, dropped = divide(named, parts, group)
    ids: Counter[str] = Counter()
    group_of: dict[str, str] = {}
    try:
        splits = {
            split: build_examples(named, rows, split, preset, ids, group_of)
            for split, rows in divided.items()
        }
    except EqualOptionsError as error:
        raise ValueError(f"{error}; {_how_many_alike(named, divided, preset)}") from error
    for split, examples in splits.items():
        if not examples:
            raise ValueError(f"{named.name}: exclude leaves no row of split {split}")
    for split, expected in catalog.expected_rows(named, group).items():
        if len(splits[split]) != expected:
            raise ValueError(
                f"{named.name}: split {split} must have {expected} rows, found {len(splits[split])}"
            )
    source = named.source
    return Task(
        name=named.name,
        description=group.description if group else named.description,
        licence=named.licence,
        splits=splits,
        version=named.version,
        source=f"{source.hub}@{source.revision}" if source.hub else source.homepage or "own files",
        dropped=dropped,
        equal_options=_equal_options(splits),
        group_of=group_of,
    )


def _equal_options(splits: Mapping[str, Sequence[Example]]) -> dict[str, int]:
    found = {
        split: sum(
            len({option.text for option in example.options or ()}) < len(example.options or ())
            for example in examples
        )
        for split, examples in splits.items()
    }
    return {split: number for split, number in found.items() if number}


def _how_many_alike(
    definition: Definition, divided: Mapping[str, Sequence[KeyedRow]], preset: str
) -> str:
    """How many rows are refused for equal options, in words."""
    found = total = 0
    for split, rows in divided.items():
        total += len(rows)
        for asked in rows:
            try:
                build_example(definition, asked.row, split, "", preset)
            except EqualOptionsError:
                found += 1
            except ValueError:
                continue
    return f"{found:,} of {total:,} rows {'is' if found == 1 else 'are'} like this"


def build_examples(
    definition: Definition,
    rows: Sequence[KeyedRow],
    split: str,
    preset: str,
    ids: Counter[str],
    group_of: dict[str, str],
) -> list[Example]:
    """The questions of a split.

    Args:
        definition: Of the task.
        rows: Of the split.
        split: Its name.
        preset: Prompt preset.
        ids: How often each id was given so far; counted on.
        group_of: Example id -> group; what the rows say is added.

    Raises:
        ValueError: Naming file, row and column.
    """
    examples = []
    for asked in rows:
        id = text_of(definition.id, asked.row) if definition.id else content_id(asked.key)
        if not id.strip():
            raise ValueError(f"{asked.row.place}, column {definition.id!r}: the id is empty")
        ids[id] += 1
        if definition.id and ids[id] > 1:
            raise ValueError(f"{asked.row.place}, column {definition.id!r}: {id!r} stands twice")
        # A question asked twice in one split, with other options or another answer.
        unique = id if ids[id] == 1 else f"{id}-{ids[id]}"
        example = build_example(definition, asked.row, split, unique, preset)
        if not _excluded(definition, example):
            examples.append(example)
            if definition.group is not None:
                group_of[unique] = fill(definition.group, asked.row).strip()
    return examples


def _excluded(definition: Definition, example: Example) -> bool:
    held = {"question": example.prompt, "answer": example.answer_text}
    return any(
        re.search(rf"\b{re.escape(phrase)}\b", held[where], re.IGNORECASE)
        for where, phrases in definition.exclude.items()
        for phrase in phrases
    )
