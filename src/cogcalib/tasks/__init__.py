"""What is asked, and what counts as right."""

from __future__ import annotations

from pathlib import Path

from cogcalib.tasks import atlas
from cogcalib.tasks.splits import compose, draw
from cogcalib.tasks.task import Task, check_disjoint

__all__ = ["Task", "check_disjoint", "compose", "draw", "load_task", "task_names"]


def task_names() -> list[str]:
    """Names that `load_task` accepts."""
    return list(atlas.TASKS)


def load_task(name: str, data_dir: Path | str | None = None) -> Task:
    """Load a task by name.

    Args:
        name: One of `task_names()`.
        data_dir: Folder of local data sets; the embedded atlas tasks need none.

    Raises:
        ValueError: If there is no task of that name, or `data_dir` is no folder.
    """
    if name not in task_names():
        raise ValueError(f"task must be one of {', '.join(task_names())}, got {name!r}")
    if data_dir is not None and not Path(data_dir).is_dir():
        raise ValueError(f"data_dir must be an existing folder, got {str(data_dir)!r}")
    return atlas.load(name)
