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
from cogcalib.suggest import did_you_mean, hint_first
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
    if str(name) in atlas.TASKS:
        return _with_preset(atlas.load(str(name)), prompt)
    definition, group = _find(str(name))
    if is_task_file(name):
        return _load(definition, None, Path(name).parent, prompt)
    return _load(definition, group, _data_folder(data_dir), prompt, str(name))


def is_task_file(name: str | Path) -> bool:
    """Whether a task is named by the path of a file."""
    return Path(name).suffix in (".yaml", ".yml")


def task_splits(name: str) -> list[str]:
    """The splits of a task, of which no row is read.

    Raises:
        ValueError: If there is no such task, or it is a task file that cannot be read.
    """
    return atlas.splits(name) if name in atlas.TASKS else list(_find(name)[0].splits)


def no_such_split(key: str, split: str, task: str, splits: Iterable[str]) -> ValueError:
    """The error for a split that a task does not have.

    Args:
        key: The setting that names it.
        split: What it names.
        task: Name of the task.
        splits: Those it has.
    """
    known = list(splits)
    if len(known) == 1:
        return ValueError(f"{key} must be {known[0]}, the only split of task {task}, got {split!r}")
    return ValueError(
        f"{key} must be one of {', '.join(known)} for task {task}, got {split!r}"
        f"{did_you_mean(split, known)}"
    )


def _find(name: str) -> tuple[Definition, Group | None]:
    """Definition and group of a task that is not generated.

    Raises:
        ValueError: As `task_splits`.
    """
    if is_task_file(name):
        return read_definition(Path(name)), None
    if name in catalog.task_names():
        return catalog.find(name)
    if Path(name).suffix in (".jsonl", ".csv", ".parquet"):
        rest = "a file of rows goes with data, or into a task file (docs/tasks.md)"
    else:
        rest = "`cogcalib tasks` lists them, and one of your own is the path of a YAML file"
    meant = did_you_mean(name, catalog.task_names())
    raise ValueError(hint_first(f"there is no task {name!r}", meant, rest))


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
    return read_definition(Path(name)).name if is_task_file(name) else name


def check_tasks(names: Iterable[str], data_dir: Path | str | None) -> None:
    """Refuse names of no task, and tasks whose data only the hub can have while it is away.

    Nothing heavy is imported for it, and no row is read.

    Raises:
        ValueError: If there is no such task, or it is a task file that cannot be read.
        InputError: Naming the first data set that cannot be had.
    """
    local = data_dir is not None or bool(os.environ.get(DATA_FOLDER))
    for name in names:
        if name in atlas.TASKS:
            continue
        definition, _ = _find(name)
        source = definition.source
        # Files of a task of one's own lie beside it, those of a shipped one in the data folder.
        here = is_task_file(name) or local
        lacking = any(not here or source.parts[part].file is None for part in _read(definition))
        if lacking and source.hub is not None:
            hub.check_data_reachable(source.hub)


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
    parts = {part: read_part(named.source, part, folder) for part in _read(named)}
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


def _read(definition: Definition) -> list[str]:
    """The parts of its source that a task reads."""
    splits = definition.splits.values()
    return sorted({part for split in splits for part in (split.part, split.without) if part})


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
