"""The verb ``report``: a finished run's table and page, or anybody's predictions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cogcalib.cli.console import print_tables, show_run
from cogcalib.records import input_errors


def add_to(verbs: Any) -> None:
    """Add the verb to the command line."""
    report = verbs.add_parser(
        "report", help="show a finished run's table and rewrite its page, or score predictions"
    )
    report.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="RUN|FILE",
        help="a run folder, or files of predictions (.jsonl, .parquet), samples that "
        "lm-evaluation-harness logged among them",
    )
    report.add_argument(
        "--split", metavar="NAME", help="the split of such samples, which keep no record of it"
    )
    report.set_defaults(verb=_report)


def _report(options: argparse.Namespace) -> None:
    from cogcalib.report import prediction_rows, write_html

    with input_errors():
        if len(options.paths) == 1 and options.paths[0].suffix not in (".jsonl", ".parquet"):
            if options.split is not None:
                raise ValueError("--split is for lm-evaluation-harness' samples, not for a run")
            write_html(options.paths[0])
            show_run(options.paths[0])
            return
        rows = prediction_rows(options.paths, samples_split=options.split)
    for split in dict.fromkeys(row["split"] for row in rows):
        print_tables(rows, split)
