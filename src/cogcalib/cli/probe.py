"""The verb ``probe``: what a model already knows of a data set."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cogcalib.cli.console import endpoint_errors, progress_bar, screen
from cogcalib.cli.options import add_fields, read_fields
from cogcalib.records import AUTO, DTYPES, PRESETS, input_errors

if TYPE_CHECKING:
    from rich.console import Console

    from cogcalib.knowledge import Probed
    from cogcalib.knowledge.probe_run import Probe

HELP = "show what a model already knows of a data set"

MOST_GROUPS = 30
LARGE = ("engine", "worker", "workers", "partition")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    from cogcalib.inference.backend_spec import REMOTE, WORKERS
    from cogcalib.knowledge.probe_task import ENGINES, ProbeTask
    from cogcalib.knowledge.slick_settings import MODES

    values = {"mode": MODES, "dtype": (AUTO, *DTYPES), "prompt": PRESETS}
    add_fields(parser, ProbeTask, without=(*LARGE, *REMOTE), values=values)
    large = parser.add_argument_group("large data sets")
    add_fields(large, ProbeTask, only=LARGE, values={"engine": ENGINES, "worker": WORKERS})
    remote = parser.add_argument_group(
        "endpoint", "ask an OpenAI-compatible server (vLLM, SGLang, llama.cpp) for --model"
    )
    add_fields(remote, ProbeTask, only=REMOTE)


def execute(options: argparse.Namespace) -> Any:
    """Probe, print the shares and write the page; returns counts, and shares by group."""
    from cogcalib.knowledge.probe_task import ProbeTask

    with input_errors():
        asked = ProbeTask(**read_fields(options, ProbeTask))
    from rich.markup import escape

    from cogcalib.harness.report.probe_page import MOST_ROWS, write_probe_html
    from cogcalib.harness.report.probe_tables import by_group, missing_detectors, shares, small_n
    from cogcalib.knowledge import CATEGORIES
    from cogcalib.knowledge.partitions import count_categories, draw_rows
    from cogcalib.knowledge.probe_run import probe_task
    from cogcalib.knowledge.rotations import turns

    kept = "; the same command goes on from there"
    with endpoint_errors(kept), progress_bar("probe") as progress, input_errors():
        found = probe_task(asked, progress)
    if not found.main:
        return None
    console = screen()
    with input_errors():
        page = write_probe_html(found.folder)
        counts = count_categories(found.folder)
    if counts.total() > MOST_ROWS:
        console.print(
            f"Of {counts.total():,} questions these are {MOST_ROWS:,}, drawn at random; of all: "
            + ", ".join(f"{name} {counts[name]:,}" for name in CATEGORIES)
        )
    rows = draw_rows(found.folder, MOST_ROWS)
    console.print(asking(found, options.mode, turned=turns(rows[0].example) > 1))
    show_probe(rows, console)
    for line in (missing_detectors(rows), small_n(counts.total()), found.repeats):
        if line:
            console.print(line, markup=False)
    if found.kept:
        console.print(f"{found.kept:,} questions were there from before.")
    if found.shortened:
        console.print(f"Passages shortened to fit the model: {found.shortened}")
    # Not wrapped: a path is there to be copied.
    rows_file, page_file = (escape(str(each)) for each in (found.folder / "probe.parquet", page))
    console.print(f"\nRows: {rows_file}", soft_wrap=True)
    console.print(f"Page: [bold]{page_file}[/bold]\n", soft_wrap=True)
    groups = {name: dict(zip(CATEGORIES, shares(each), strict=True))
              for name, each in by_group(rows).items()}  # fmt: skip
    return {"questions": counts.total(), "categories": dict(counts), "groups": groups,
            "rows": found.folder / "probe.parquet", "page": page}  # fmt: skip


def asking(found: Probe, mode: str, *, turned: bool) -> str:
    """How the questions were asked, in a line."""
    many = f"{found.prompts} prompt{'s' * (found.prompts != 1)}"
    shown = f" of {found.shots} shot{'s' * (found.shots != 1)}" if found.shots else " without shots"
    rotations = ", the options in every rotation" if turned else ""
    alike = "" if found.shots else " Without shots all prompts would be alike: --prompts is 1."
    return f"Mode {mode}, {many}{shown}{rotations}.{alike}"


def show_probe(rows: Probed, console: Console) -> None:
    """Print the categories, the groups and the detectors as tables."""
    from rich.markup import escape
    from rich.table import Table

    from cogcalib.harness.report.columns import percent
    from cogcalib.harness.report.probe_tables import (
        by_named_group,
        category_grid,
        detector_grid,
        shares,
    )
    from cogcalib.harness.terminal_tables import show_table
    from cogcalib.knowledge import CATEGORIES

    groups = by_named_group(rows)
    for grid in (category_grid(rows), detector_grid(rows)):
        table = Table(*grid.headers)
        for line in grid.rows:
            table.add_row(*(cell for cell, _ in line))
        show_table(table, console)
    if len(groups) > 1:
        table = Table("Group", "Questions", *CATEGORIES)
        for group, members in list(groups.items())[:MOST_GROUPS]:
            parts = (f"{percent(share)} %" for share in shares(members))
            table.add_row(escape(group), f"{len(members):,}", *parts)
        show_table(table, console)
        if len(groups) > MOST_GROUPS:
            console.print(f"... and {len(groups) - MOST_GROUPS} more groups: they are on the page")
