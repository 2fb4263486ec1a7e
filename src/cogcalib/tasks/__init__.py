"""Tasks: the questions asked, their splits, and the answers that count as correct."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogcalib.lazy import import_on_use

if TYPE_CHECKING:
    from cogcalib.tasks.catalog import Summary, summaries, task_names
    from cogcalib.tasks.loading import load_rows, load_task, own_name
    from cogcalib.tasks.question_table import Asked, QuestionTable, load_table
    from cogcalib.tasks.read import TablePlace
    from cogcalib.tasks.splits import compose, draw, drawn_as_one, halve, largest_mixture
    from cogcalib.tasks.task import Repeats, Task, check_disjoint

__all__ = [
    "Asked",
    "QuestionTable",
    "Repeats",
    "Summary",
    "TablePlace",
    "Task",
    "check_disjoint",
    "compose",
    "draw",
    "drawn_as_one",
    "halve",
    "largest_mixture",
    "load_rows",
    "load_table",
    "load_task",
    "own_name",
    "summaries",
    "task_names",
]

import_on_use(
    __name__,
    {
        "cogcalib.tasks.catalog": ["Summary", "summaries", "task_names"],
        "cogcalib.tasks.loading": ["load_rows", "load_task", "own_name"],
        "cogcalib.tasks.question_table": ["Asked", "QuestionTable", "load_table"],
        "cogcalib.tasks.read": ["TablePlace"],
        "cogcalib.tasks.splits": ["compose", "draw", "drawn_as_one", "halve", "largest_mixture"],
        "cogcalib.tasks.task": ["Repeats", "Task", "check_disjoint"],
    },
)
