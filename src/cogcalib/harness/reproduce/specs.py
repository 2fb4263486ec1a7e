"""The tasks that a configuration asks: their own names, and of what kind they are."""

from __future__ import annotations

from pathlib import Path

from cogcalib.harness.config import Config
from cogcalib.records import input_errors
from cogcalib.tasks import atlas, catalog, own_name
from cogcalib.tasks.loading import is_task_file, task_splits
from cogcalib.tasks.task_file import read_definition


def tested_on(config: Config) -> tuple[str, ...]:
    """Every task tested on, by its own name, the one trained on first.

    Raises:
        InputError: If one is a task file that cannot be read.
    """
    with input_errors():
        return tuple(map(own_name, (config.tasks.train, *config.tasks.out_of_domain)))


def is_open_ended(config: Config) -> bool:
    """Whether a configuration's task has no options, without loading a data set.

    Raises:
        InputError: If a task does not exist, or is a task file that cannot be read.
    """
    with input_errors():
        for name in (config.tasks.train, *config.tasks.out_of_domain):
            task_splits(name)
    return has_no_options(config.tasks.train)


def has_no_options(name: str) -> bool:
    """Whether a task is open-ended, by its name or the path of its file."""
    if name in atlas.TASKS:
        return atlas.is_open_ended(name)
    if is_task_file(name):
        with input_errors():
            return read_definition(Path(name)).kind == "open-ended"
    return catalog.find(name)[0].kind == "open-ended"
