"""The verb ``tasks``: what can be asked, and how it looks to a model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from cogcalib.records import input_errors


def add_to(verbs: Any) -> None:
    """Add the verb to the command line."""
    tasks = verbs.add_parser("tasks", help="list the tasks and their sizes, or show one")
    tasks.set_defaults(verb=_tasks)
    show = tasks.add_subparsers(metavar="[show NAME]").add_parser(
        "show", help="a rendered example with its tokens, the supervised span marked"
    )
    show.add_argument("name", metavar="NAME", help="of a task, or the path of a task file")
    show.add_argument("--model", default="atlas", help="whose tokenizer (atlas)")
    show.add_argument("--data-dir", type=Path, metavar="DIR", help="folder of local data sets")
    show.add_argument("--prompt", default="cogcalib", help="prompt preset (cogcalib)")
    show.set_defaults(verb=_show_task)


def _tasks(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    from cogcalib.tasks import summaries

    table = Table(Column("task", no_wrap=True), "question", "rows", "licence")
    for task in summaries():
        rows = ", ".join(f"{split} {number}" for split, number in task.rows.items())
        table.add_row(task.name, task.description, rows, task.licence)
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _show_task(options: argparse.Namespace) -> None:
    from cogcalib.modeling import load_tokenizer
    from cogcalib.modeling.show import show_audit, show_example
    from cogcalib.tasks import load_task

    with input_errors():
        task = load_task(options.name, options.data_dir, prompt=options.prompt)
        tokenizer = load_tokenizer(options.model)
        examples = next(iter(task.splits.values()))
        shown = [show_example(examples[0], tokenizer)]
        if examples[0].options is not None:
            shown.append(show_audit(examples, tokenizer))
    rows = ", ".join(f"{split} {len(each)}" for split, each in task.splits.items())
    print(f"{task.name}, version {task.version}: {task.description}")
    print(f"from {task.source}; licence: {task.licence}")
    print(f"rows: {rows}")
    for repeats in task.dropped:
        print(
            f"dropped from {repeats.split}: {repeats.questions} questions ({repeats.rows} rows) "
            f"that stand in {repeats.found_in}"
        )
    for split, number in task.equal_options.items():
        print(f"{split}: {number} questions show one text under two letters")
    print("", *shown, sep="\n")
