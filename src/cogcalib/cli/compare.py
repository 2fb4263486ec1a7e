"""The verb ``compare``: paired differences between runs, or files of predictions."""

from __future__ import annotations

import argparse
from pathlib import Path

from cogcalib.artifacts import check_writable
from cogcalib.cli.console import check_json, print_tables, shown, write_rows
from cogcalib.cli.report import add_samples_options, check_path
from cogcalib.records import input_errors

HELP = "hold runs or predictions against the first of them, question by question"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="RUN|FILE",
        help="run folders, files of predictions (.jsonl, .parquet) or samples that "
        "lm-evaluation-harness logged; the others are compared with the first, methods with those "
        "of the same name",
    )
    parser.add_argument("--method", metavar="NAME", help="the only method of runs to compare")
    add_samples_options(parser)
    parser.add_argument("--output", type=Path, metavar="PAGE", help="write a page, a new HTML file")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the rows, as in metrics.json, with their differences to a new file",
    )


def execute(options: argparse.Namespace) -> None:
    """Compare, print the tables, write the page and the rows."""
    from cogcalib.harness.report.comparison import compare

    with input_errors():
        check_json(options.json)
        _check_output(options.output)
        for path in options.paths:
            check_path(path)
        found = compare(
            options.paths,
            method=options.method,
            samples_split=options.split,
            samples_filter=options.filter,
        )
    rows = [dict(row) for row in found.rows]
    for split in dict.fromkeys(row["split"] for row in rows):
        print_tables(rows, split, found.pairs, in_domain=found.trained_on)
    for note in found.notes:
        print(f"\n{shown(note)}")
    for pair in found.pairs:
        for row in rows:
            if (row["method"], row["task"], row["split"]) == (pair.one, pair.task, pair.split):
                row["differences"] = {pair.other: pair.to_json()}
    write_rows(options.json, rows)
    if options.output is not None:
        from cogcalib.harness.report.comparison_page import write_comparison

        write_comparison(options.output, found)
        print(f"\nThe whole comparison: {shown(str(options.output))}")


def _check_output(path: Path | None) -> None:
    """Check that the page can be written, before anything is computed.

    Raises:
        ValueError: If something lies there already, or it cannot be written.
    """
    if path is None:
        return
    check_writable(path)
    if path.exists():
        raise ValueError(f"--output {path} already exists; remove it or choose another name")
