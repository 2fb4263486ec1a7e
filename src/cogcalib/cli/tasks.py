"""The verb ``tasks``: what can be asked, and how it looks to a model."""

from __future__ import annotations

import argparse
from typing import Any

from cogcalib.cli.console import screen, shown
from cogcalib.cli.examples import examples_of
from cogcalib.cli.options import add_json, add_shared
from cogcalib.records import PRESETS, input_errors

HELP = "list the tasks and their sizes, or show one"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.set_defaults(task=None)
    show = parser.add_subparsers(metavar="[show NAME]").add_parser(
        "show",
        help="a rendered example with its tokens, the supervised span marked",
        epilog=examples_of("tasks show"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    show.add_argument("task", metavar="NAME", help="of a task, or the path of a task file")
    show.add_argument("--model", default="atlas", help="whose tokenizer (atlas)")
    show.add_argument("--prompt", default=PRESETS[0], help=f"prompt preset ({PRESETS[0]})")
    add_shared(show, "--data-dir")
    # Before `show` or behind it: what stands before it is not overwritten.
    add_json(show, default=argparse.SUPPRESS)


def execute(options: argparse.Namespace) -> Any:
    """List the tasks, or show the one that is named; returns what is listed or shown."""
    return _list_tasks() if options.task is None else _show_task(options)


def _list_tasks() -> Any:
    from rich.table import Table

    from cogcalib.harness.terminal_tables import show_table
    from cogcalib.tasks import summaries

    table = Table("task", "question", "rows", "licence")
    found = summaries()
    for task in found:
        rows = ", ".join(f"{split} {number}" for split, number in task.rows.items())
        table.add_row(task.name, task.description, rows, task.licence)
    show_table(table, screen(140))
    return found


def _show_task(options: argparse.Namespace) -> Any:
    from cogcalib.modeling import load_tokenizer
    from cogcalib.modeling.show import show_audit, show_example
    from cogcalib.tasks import load_task

    with input_errors():
        task = load_task(options.task, options.data_dir, prompt=options.prompt)
        tokenizer = load_tokenizer(options.model)
        examples = next(iter(task.splits.values()))
        texts = [show_example(examples[0], tokenizer)]
        if examples[0].options is not None:
            texts.append(show_audit(examples, tokenizer))
    rows = ", ".join(f"{split} {len(each)}" for split, each in task.splits.items())
    print(shown(f"{task.name}, version {task.version}: {task.description}"))
    print(shown(f"from {task.source}; licence: {task.licence}"))
    print(f"rows: {rows}")
    for line in task.dropped_lines():
        print(shown(line))
    for split, number in task.equal_options.items():
        print(f"{split}: {number} questions show one text under two letters")
    print("", *(shown(text) for text in texts), sep="\n")
    return {
        "name": task.name,
        "version": task.version,
        "rows": {split: len(each) for split, each in task.splits.items()},
        "licence": task.licence,
        "shown": texts,
    }
