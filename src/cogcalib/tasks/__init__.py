"""What is asked, and what counts as right."""

from __future__ import annotations

from cogcalib.tasks.catalog import Summary, summaries, task_names
from cogcalib.tasks.load import load_task, own_name
from cogcalib.tasks.splits import compose, draw
from cogcalib.tasks.table import Asked, Place, Table, load_table
from cogcalib.tasks.task import Repeats, Task, check_disjoint

__all__ = [
    "Asked",
    "Place",
    "Repeats",
    "Summary",
    "Table",
    "Task",
    "check_disjoint",
    "compose",
    "draw",
    "load_table",
    "load_task",
    "own_name",
    "summaries",
    "task_names",
]
