"""The verb ``reproduce``: a table of the paper, or of ours, on any model."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cogcalib.artifacts import check_writable
from cogcalib.cli.console import console as terminal
from cogcalib.cli.console import quiet, refuse_launched, screen
from cogcalib.cli.options import add_shared
from cogcalib.records import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from cogcalib.harness.reproduce.execute import PlanOutcome

HELP = "a whole table: train, choose, score, compare; goes on where it stopped"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("table", metavar="TABLE", help="such as main, controls, ratio, ood")
    parser.add_argument(
        "--model", required=True, help="a shipped preset (atlas ...) or a YAML file like it"
    )
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds 0 ... N-1 (5)")
    parser.add_argument(
        "--tune-seeds", type=int, default=1, metavar="N", help="seeds of each trial (1)"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="processes at once (one for each GPU, else 1)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and its hours")
    add_shared(parser, "--rule", "--data-dir", "--runs")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("docs/results"),
        metavar="DIR",
        help="where the table goes (docs/results)",
    )
    parser.add_argument("--limit-methods", nargs="+", metavar="METHOD", help="only these rows")
    parser.add_argument("--without", nargs="+", default=[], metavar="METHOD", help="not these rows")


def execute(options: argparse.Namespace) -> list[str] | None:
    """Print the plan, or train what is missing and write the table; returns the files written."""
    _check(options)
    refuse_launched("reproduce")
    if options.dry_run and options.json is not None:
        raise InputError("--json goes with a table, and --dry-run makes none")
    quiet()
    import torch

    from cogcalib.harness.reproduce import (
        ExecutionOptions,
        load_preset,
        load_table,
        make_plan,
        reproduce,
    )
    from cogcalib.harness.reproduce.execute import check
    from cogcalib.harness.reproduce.result_files import check_output, write_results
    from cogcalib.harness.reproduce.workers import memory_shares, visible_gpus

    gpus = visible_gpus(torch.cuda.device_count())
    jobs = options.jobs or max(1, len(gpus))
    plan = make_plan(
        load_table(options.table),
        load_preset(options.model),
        options.runs / "reproduce",
        seeds=range(options.seeds),
        tune_seeds=range(options.tune_seeds),
        limit_methods=options.limit_methods,
        without=options.without,
    )
    console = terminal()
    check(plan)
    if options.dry_run:
        from cogcalib.harness.reproduce.estimate import show_plan

        show_plan(plan, jobs, screen(), options.rule)
        return None
    for folder in (options.runs, options.output):
        check_writable(folder)
    check_output(plan, options.output, options.rule)
    if shared := max(memory_shares(jobs, len(gpus)), default=0):
        console.print(
            f"  {jobs} processes on {len(gpus)} GPU{'s' * (len(gpus) > 1)}: each takes at most "
            f"{100 * shared:.0f} % of one's memory",
            highlight=False,
        )
    settings = ExecutionOptions(jobs, options.rule, options.data_dir, tuple(gpus))
    outcome = reproduce(plan, settings, console)
    # Paths of this machine are nobody's business; what they hold is told by its hash.
    command = shlex.join(["cogcalib", *sys.argv[1:]])
    written = write_results(outcome, options.output, command, options.rule)
    for path in written:
        console.print(f"  {path}", soft_wrap=True, markup=False)
    _show_missing(outcome, console)
    if outcome.failures or outcome.left_out:
        raise SystemExit(1)
    return [str(path) for path in written]


def _check(options: argparse.Namespace) -> None:
    for name in ("seeds", "tune_seeds", "jobs"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise InputError(
                f"--{name.replace('_', '-')} must be at least 1, got {getattr(options, name)}"
            )
    for name in ("runs", "output"):
        folder = getattr(options, name)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--{name} must be a folder, got the file {folder}")
    if options.data_dir and not options.data_dir.is_dir():
        raise InputError(f"--data-dir must be an existing folder, got {options.data_dir}")


def _show_missing(outcome: PlanOutcome, console: Console) -> None:
    from rich.markup import escape

    for reason in outcome.left_out:
        console.print(f"  [yellow]left out[/] {escape(reason)}", soft_wrap=True)
    for failure in outcome.failures:
        console.print(f"\n[red]failed[/] {escape(failure.cell.label)}", soft_wrap=True)
        console.print(failure.message, markup=False, highlight=False)
