"""Names that a command is given, checked before anything heavy is imported.

To import torch and transformers takes ten times as long as to find that a name is misspelt.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cogcalib.records import InputError, check_preset, input_errors

if TYPE_CHECKING:
    from cogcalib.harness.config import Config

TABLES = ("data", "unlabelled", "out_of_domain")
"""Options that name a file of questions."""


def check_names(options: argparse.Namespace) -> None:
    """Check that what a verb is to load can be had; an endpoint's names are its own.

    Raises:
        InputError: Naming the first that cannot be had.
    """
    for name in TABLES:
        path = getattr(options, name, None)
        if isinstance(path, Path) and not path.exists():
            raise InputError(f"{path}: no such data file")
    with input_errors():
        if (prompt := getattr(options, "prompt", None)) is not None:
            check_preset(prompt)
        if (task := getattr(options, "task", None)) is not None:
            _check_task(task, options)
    given = [getattr(options, name, None) for name in ("model", "base", "adapter")]
    names = [each for each in given if isinstance(each, str)]
    if names and getattr(options, "endpoint", None) is None:
        from cogcalib.hub import check_reachable

        check_reachable(*names)


def check_configured(config: Config, data_dir: Path | None) -> None:
    """Check the names in a configuration: its model and its tasks.

    Raises:
        InputError: Naming the first that cannot be had.
    """
    from cogcalib.hub import check_reachable
    from cogcalib.tasks.loading import check_tasks

    with input_errors():
        check_tasks((config.tasks.train, *config.tasks.out_of_domain), data_dir)
    check_reachable(config.model.path)


def _check_task(task: str, options: argparse.Namespace) -> None:
    """Raise ValueError if there is no such task, its data cannot be had, or it lacks a split."""
    from cogcalib.tasks.loading import check_tasks, no_such_split, task_splits

    check_tasks([task], options.data_dir)
    splits = task_splits(task)
    for name in ("split", "shot_split"):
        split = getattr(options, name, None)
        if split is None or (name == "shot_split" and options.shots == 0):
            continue
        if split not in splits:
            raise no_such_split(name, split, task, splits)
