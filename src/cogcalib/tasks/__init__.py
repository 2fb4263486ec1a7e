"""What is asked, and what counts as right."""

from __future__ import annotations

from cogcalib.tasks.catalog import Summary, summaries, task_names
from cogcalib.tasks.load import load_task
from cogcalib.tasks.splits import compose, draw
from cogcalib.tasks.table import load_table
from cogcalib.tasks.task import Repeats, Task, check_disjoint

__all__ = [
    "Repeats",
    "Summary",
    "Task",
    "check_disjoint",
    "compose",
    "draw",
    "load_table",
    "load_task",
    "summaries",
    "task_names",
]
