"""The verb ``report``: a finished run's table and page, or anybody's predictions."""

from __future__ import annotations

import argparse
from pathlib import Path

from cogcalib.cli.console import check_json, print_tables, show_run, write_rows
from cogcalib.records import input_errors

HELP = "show a finished run's table and rewrite its page, or score predictions"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="RUN|FILE",
        help="a run folder, or files of predictions (.jsonl, .parquet), samples that "
        "lm-evaluation-harness logged among them",
    )
    parser.add_argument(
        "--split", metavar="NAME", help="the split of such samples, which keep no record of it"
    )
    parser.add_argument(
        "--filter",
        metavar="NAME",
        help="the filter of such samples to read, where there are several",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the rows, as in metrics.json, to a new file",
    )


def execute(options: argparse.Namespace) -> None:
    """Show the tables and write the page or the rows."""
    from cogcalib.harness.report import load_run, write_html
    from cogcalib.harness.report.differences import paired_predictions
    from cogcalib.harness.report.predictions import read_groups, rows_of

    with input_errors():
        check_json(options.json)
        for path in options.paths:
            _check_path(path)
        if len(options.paths) == 1 and options.paths[0].is_dir():
            if options.split is not None:
                raise ValueError("--split is for lm-evaluation-harness' samples, not for a run")
            write_html(options.paths[0])
            show_run(options.paths[0])
            write_rows(options.json, load_run(options.paths[0]).rows)
            return
        groups = read_groups(
            options.paths, samples_split=options.split, samples_filter=options.filter
        )
        rows = rows_of(groups)
        pairs, notes = paired_predictions(groups)
    for split in dict.fromkeys(row["split"] for row in rows):
        print_tables(rows, split, pairs)
    for note in notes:
        print(f"\n{note}")
    for pair in pairs:
        for row in rows:
            if (row["method"], row["task"], row["split"]) == (pair.one, pair.task, pair.split):
                row["differences"] = {pair.other: pair.to_json()}
    write_rows(options.json, rows)


def _check_path(path: Path) -> None:
    """Tell what can be reported from what merely exists.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If it is neither a run nor a file of predictions, saying what would be.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    if path.is_file() and path.suffix not in (".jsonl", ".parquet"):
        raise ValueError(f"{path}: predictions are .jsonl or .parquet, a run is a folder")
    if path.is_dir() and any(path.glob("samples_*.jsonl")):
        raise ValueError(
            f"{path} is no run: name the samples in it, {path}/samples_*.jsonl, as files"
        )
