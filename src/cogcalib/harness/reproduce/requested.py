"""Rows, tasks and configurations that a command asks of a table, before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from cogcalib.harness.config import Config, parse_config
from cogcalib.harness.config.train_sections import TrainSection
from cogcalib.harness.reproduce.definitions import (
    DEFAULT,
    UNCHANGED,
    Preset,
    Table,
    Variant,
    load_preset,
    merge,
)
from cogcalib.harness.run_folder import RunFolder
from cogcalib.records import InputError, input_errors
from cogcalib.suggest import any_meant, hint_first


def kept_rows(
    table: Table, limit: Sequence[str] | None = None, without: Sequence[str] = ()
) -> tuple[str, ...]:
    """Those rows of a table that are asked for, in its order; ``sft`` always stays.

    Raises:
        InputError: If one that is named is none, or none is left.
    """
    if unknown := sorted({*(limit or ()), *without} - set(table.methods)):
        raise InputError(
            hint_first(
                f"{', '.join(unknown)} is no row of {table.name} that can be named",
                any_meant(unknown, table.methods),
                f"there are {', '.join(table.methods)}",
            )
        )
    kept = tuple(
        name
        for name in table.methods
        if (not limit or name in limit or name == "sft") and name not in without
    )
    if not kept:
        raise InputError(f"no row of {table.name} is left to run")
    return kept


def presets_of(table: Table, preset: Preset) -> list[Preset]:
    """The models that a table runs on: the one asked for, or all of its family.

    Raises:
        InputError: If there is no preset that the family names.
    """
    if not table.families:
        return [preset]
    try:
        return [load_preset(name) for name in preset.family] or [preset]
    except InputError as error:
        raise InputError(f"{preset.name}: family: {error}") from error


def tasks_of(table: Table, preset: Preset) -> list[str]:
    """The tasks of a preset that a table is about, in their order.

    Raises:
        InputError: If there are none.
    """
    if table.where == "primary":
        return list(preset.tasks)[:1]
    names = [
        name
        for name in preset.tasks
        if table.where == "all" or preset.asked(name).get("out_of_domain")
    ]
    if not names:
        raise InputError(
            f"{table.name} on {preset.name}: no task of the model has tests out_of_domain, which "
            "the table is about"
        )
    return [name for name in table.tasks if name in names] or names


def kept_tasks(table: Table, preset: Preset, limit: Sequence[str] | None = None) -> list[str]:
    """Those of `tasks_of` that are asked for.

    Raises:
        InputError: If one that is named is none, and as `tasks_of`.
    """
    tasks = tasks_of(table, preset)
    if unknown := [name for name in limit or () if name not in tasks]:
        raise InputError(
            hint_first(
                f"--limit-tasks: {table.name} on {preset.name} has no task {', '.join(unknown)}",
                any_meant(unknown, tasks),
                f"there are {', '.join(tasks)}",
            )
        )
    return [name for name in tasks if not limit or name in limit]


def place_name(task: str, variant: str) -> str:
    """The name of a run folder."""
    return task if variant == DEFAULT else f"{task}-{variant}"


def place_path(root: Path, preset: Preset, task: str, variant: str) -> Path:
    """The run folder of a task under a variant."""
    return root / preset.name.rpartition("/")[2] / place_name(task, variant)


def place_config(preset: Preset, task: str, name: str, variant: Variant) -> Config:
    """The configuration of a run folder, as the preset and the variant say.

    Args:
        preset: The model.
        task: One of its tasks.
        name: Of the variant.
        variant: The variant.

    Raises:
        InputError: If it is invalid.
    """
    named, own = place_name(task, name), preset.variants.get(name, {})
    canonical = {"name": named, "methods": ["base"], "seeds": [0]}
    values = merge(preset.config, preset.tasks[task], variant.config, own, canonical)
    with input_errors():
        parsed = parse_config(json.dumps(values), source=f"{preset.name}, {named}")
        if variant.length != 1:
            longer = {"train": _length(parsed.train, variant.length)}
            parsed = parse_config(json.dumps(merge(values, longer)))
    return parsed


def _length(train: TrainSection, times: float) -> dict[str, float]:
    if train.steps is None:
        return {"epochs": (train.epochs or 0) * times}
    return {"steps": round(train.steps * times)}


def unprepared(
    table: Table, preset: Preset, root: Path, limit_tasks: Sequence[str] | None = None
) -> Iterator[Config]:
    """The configurations of those run folders that were not begun yet.

    Args:
        table, preset, root, limit_tasks: As `cogcalib.harness.reproduce.make_plan` takes them.

    Raises:
        InputError: As `kept_tasks`, `presets_of` and `place_config`.
    """
    for each in presets_of(table, preset):
        kept = kept_tasks(table, each, limit_tasks)
        first = tasks_of(table, each)[:1] if table.tune == "first" else []
        for task in dict.fromkeys((*first, *kept)):
            variants = table.variants if task in kept else {}
            if table.tune == "once" or task in first:
                variants = {DEFAULT: UNCHANGED, **variants}
            for name, variant in variants.items():
                config = place_config(each, task, name, variant)
                if not RunFolder(place_path(root, each, task, name)).manifest.is_file():
                    yield config
