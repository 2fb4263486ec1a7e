"""The verb ``compare``: paired differences between runs, or files of predictions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cogcalib.cli.console import check_new, print_sentences, print_tables
from cogcalib.cli.report import (
    add_samples_options,
    check_figures,
    check_path,
    write_page,
)
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
        "--figures", type=Path, metavar="DIR", help="write every chart of the page as an SVG file"
    )


def execute(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare, print the tables, write the page; returns the rows with their differences."""
    from cogcalib.harness.report.comparison import compare

    with input_errors():
        check_new("--output", options.output)
        check_figures(options.figures)
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
    print_sentences([*(pair.sentence for pair in found.pairs), *found.notes])
    for pair in found.pairs:
        for row in rows:
            if (row["method"], row["task"], row["split"]) == (pair.one, pair.task, pair.split):
                row["differences"] = {pair.other: pair.to_json()}
    if options.output is not None or options.figures is not None:
        write_page(found, options.output, options.figures)
    return rows
