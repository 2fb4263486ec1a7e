"""The verb ``report``: a finished run's table and page, or anybody's predictions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogcalib.artifacts import check_writable
from cogcalib.cli.console import check_new, print_sentences, print_tables, show_run, shown
from cogcalib.records import InputError, input_errors, write_text

if TYPE_CHECKING:
    from cogcalib.harness.report.comparison import Comparison

HELP = "show tables of finished runs and rewrite their pages, or score predictions"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="RUN|FILE",
        help="run folders, shown one after the other; or files of predictions (.jsonl, .parquet), "
        "samples that lm-evaluation-harness logged among them, which are compared",
    )
    add_samples_options(parser)
    parser.add_argument(
        "--output", type=Path, metavar="PAGE", help="of predictions: write a page, a new HTML file"
    )
    parser.add_argument(
        "--figures",
        type=Path,
        metavar="DIR",
        help="write every chart of the page as an SVG file; of several runs in a folder each",
    )


def add_samples_options(parser: argparse.ArgumentParser) -> None:
    """Add what samples of lm-evaluation-harness do not say of themselves."""
    parser.add_argument(
        "--split", metavar="NAME", help="the split of such samples, which keep no record of it"
    )
    parser.add_argument(
        "--filter",
        metavar="NAME",
        help="the filter of such samples to read, where there are several",
    )


def execute(options: argparse.Namespace) -> Any:
    """Show the tables, write the page and the figures; returns the rows, as in metrics.json."""
    from cogcalib.harness.report.differences import paired_predictions
    from cogcalib.harness.report.predictions import read_groups, rows_of

    with input_errors():
        check_new("--output", options.output)
        check_figures(options.figures)
        for path in options.paths:
            check_path(path)
        if any(path.is_dir() for path in options.paths):
            return _report_runs(options)
        groups = read_groups(
            options.paths, samples_split=options.split, samples_filter=options.filter
        )
        rows = rows_of(groups)
        pairs, notes = paired_predictions(groups)
    for split in dict.fromkeys(row["split"] for row in rows):
        print_tables(rows, split, pairs)
    print_sentences([*(pair.sentence for pair in pairs), *notes])
    for pair in pairs:
        for row in rows:
            if (row["method"], row["task"], row["split"]) == (pair.one, pair.task, pair.split):
                row["differences"] = {pair.other: pair.to_json()}
    if options.output is not None or options.figures is not None:
        from cogcalib.harness.report.comparison import of_groups

        write_page(of_groups(groups, rows, pairs, notes), options.output, options.figures)
    return rows


def write_page(found: Comparison, output: Path | None, figures: Path | None) -> None:
    """Write the page of a comparison and its charts, where they were asked for."""
    from cogcalib.harness.report.comparison_page import comparison_page
    from cogcalib.harness.report.html import render_page, write_figures

    page = comparison_page(found)
    if output is not None:
        write_text(output, render_page(page))
        print(f"\nThe whole page: {shown(str(output))}")
    if figures is not None:
        print(f"\nFigures: {len(write_figures(page, figures))} in {shown(str(figures))}")


def check_figures(folder: Path | None) -> None:
    """Check that charts can be written into a folder that holds nothing else.

    Raises:
        ValueError: If it holds something, or cannot be written.
    """
    if folder is None:
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"--figures {folder} must be a new or an empty folder")
    check_writable(folder / "figure.svg")


def _report_runs(options: argparse.Namespace) -> Any:
    """Show every run's table and write its page anew, where that can be written.

    Returns the rows of metrics; of several runs each with the name of its own.
    """
    from cogcalib.harness.report import load_run
    from cogcalib.harness.report.html import render_page, write_figures
    from cogcalib.harness.report.page import page_content
    from cogcalib.harness.report.predictions import distinct_names

    if files := [path for path in options.paths if not path.is_dir()]:
        raise ValueError(f"runs and files of predictions cannot be mixed, {files[0]} is a file")
    for option, given in (("--split", options.split), ("--filter", options.filter)):
        if given is not None:
            raise ValueError(f"{option} is for lm-evaluation-harness' samples, not for a run")
    if options.output is not None:
        raise ValueError(
            "--output is for files of predictions; a run's page is its report.html, and `cogcalib "
            "compare --output` writes one of several runs"
        )
    if len({path.resolve() for path in options.paths}) < len(options.paths):
        raise ValueError("runs must be distinct, one comes more than once")
    several, rows = len(options.paths) > 1, []
    for number, (path, name) in enumerate(distinct_names(options.paths).items(), start=1):
        run = load_run(path)
        # Read and resampled once, for the page, its figures and the terminal.
        page = page_content(run)
        try:
            check_writable(run.folder.page)
        except InputError as error:
            show_run(run, page.findings, page=False)
            print(f"The page was not written anew: {shown(str(error))}")
        else:
            write_text(run.folder.page, render_page(page))
            show_run(run, page.findings)
        if options.figures is not None:
            own = f"{number}-{path.absolute().name}" if several else ""
            folder = options.figures / own
            written = write_figures(page, folder)
            print(f"Figures: {len(written)} in {shown(str(folder))}")
        rows += [{"run": name, **row} if several else row for row in run.rows]
    return rows


def check_path(path: Path) -> None:
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
