"""The verb ``reproduce``: a table of the paper, or of ours, on any model."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogcalib.artifacts import check_writable
from cogcalib.cli.console import console as terminal
from cogcalib.cli.console import refuse_launched, screen
from cogcalib.cli.names import check_configured
from cogcalib.cli.options import add_shared
from cogcalib.records import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from cogcalib.harness.reproduce import Preset, Table
    from cogcalib.harness.reproduce.execute import PlanOutcome
    from cogcalib.harness.reproduce.plan import Plan
    from cogcalib.harness.reproduce.preflight import Checked

HELP = "a whole table: train, choose, score, compare; goes on where it stopped"

RUNS = "reproduce"
"""Folder of the tables' run folders among all runs."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "table", metavar="TABLE", help="such as main, controls, ratio, ood; or a file like theirs"
    )
    parser.add_argument(
        "--model", required=True, help="a shipped preset (atlas ...) or a YAML file like it"
    )
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="seeds 0 ... N-1 (as the table says, mostly 5)"
    )
    parser.add_argument(
        "--tune-seeds", type=int, default=1, metavar="N", help="seeds of each trial (1)"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="processes at once (one for each GPU, else 1)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and its hours")
    parser.add_argument(
        "--check",
        action="store_true",
        help="look at access, disk and memory, time 20 steps and a scored batch, run nothing else",
    )
    parser.add_argument(
        "--drop-adapters",
        action="store_true",
        help="remove trained weights once all that is planned of them is done",
    )
    add_shared(parser, "--rule", "--data-dir", "--runs")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("docs/results"),
        metavar="DIR",
        help="where the table goes (docs/results)",
    )
    parser.add_argument("--limit-methods", nargs="+", metavar="METHOD", help="only these rows")
    parser.add_argument(
        "--limit-tasks", nargs="+", metavar="TASK", help="only these tasks of the model's preset"
    )
    parser.add_argument("--without", nargs="+", default=[], metavar="METHOD", help="not these rows")


def execute(options: argparse.Namespace) -> Any:
    """Check or print the plan, or train what is missing and write the table.

    Returns:
        The files written; with ``--check`` what was found, with ``--dry-run`` the planned cells.
    """
    _check(options)
    refuse_launched("reproduce")
    if options.dry_run and options.check:
        raise InputError("--check and --dry-run are two commands")
    table, preset = _named(options)
    import torch
    from rich.markup import escape

    from cogcalib.harness.reproduce import make_plan
    from cogcalib.harness.reproduce.execute import check
    from cogcalib.harness.reproduce.workers import visible_gpus

    gpus = visible_gpus(torch.cuda.device_count())
    jobs = options.jobs or max(1, len(gpus))
    lacking = _lacking(table.methods, options)
    plan = make_plan(
        table,
        preset,
        options.runs / RUNS,
        seeds=range(options.seeds or table.seeds),
        tune_seeds=range(options.tune_seeds),
        limit_methods=options.limit_methods,
        without=[*options.without, *lacking],
        limit_tasks=options.limit_tasks,
    )
    console = terminal()
    for row in () if options.check else lacking.values():  # among the lines of --check
        console.print(f"  [yellow]left out[/] {escape(row)}", soft_wrap=True, highlight=False)
    check(plan)
    if options.dry_run:
        from cogcalib.harness.reproduce.estimate import show_plan

        cells = show_plan(plan, jobs, screen(), options.rule, drop=options.drop_adapters)
        return [each.told() for each in cells]
    if options.check:
        return _preflight(plan, jobs, len(gpus), list(lacking.values()), options, console)
    return _run(plan, jobs, gpus, list(lacking.values()), options, console)


def _named(options: argparse.Namespace) -> tuple[Table, Preset]:
    """The table and the model's preset, after every name was checked; imports nothing heavy.

    Raises:
        InputError: Naming the first that there is not, or that a new run folder needs and that
            cannot be had. ``--check`` says the latter of everything, ``--dry-run`` needs nothing.
    """
    from cogcalib.harness.reproduce import load_preset, load_table
    from cogcalib.harness.reproduce.requested import kept_rows, unprepared

    table, preset = load_table(options.table), load_preset(options.model)
    kept_rows(table, options.limit_methods, options.without)
    new = list(unprepared(table, preset, options.runs / RUNS, options.limit_tasks))
    if not options.dry_run and not options.check:
        for config in new:
            check_configured(config, options.data_dir)
    return table, preset


def _run(
    plan: Plan,
    jobs: int,
    gpus: Sequence[str],
    lacking: Sequence[str],
    options: argparse.Namespace,
    console: Console,
) -> list[str]:
    """Train what is missing and write the table; `lacking` says why rows are left out of it."""
    from rich.markup import escape

    from cogcalib.harness.reproduce import ExecutionOptions, reproduce
    from cogcalib.harness.reproduce.result_files import check_output, write_results
    from cogcalib.harness.reproduce.workers import memory_shares

    for folder in (options.runs, options.output):
        check_writable(folder)
    if gpus:
        from cogcalib.harness.reproduce.device_memory import check_devices

        check_devices(plan, jobs, len(gpus))
    check_output(plan, options.output, options.rule)
    if not gpus and jobs > (cores := os.cpu_count() or jobs):
        console.print(f"  [yellow]{jobs} processes on {cores} processor cores[/]")
    if shares := sorted({round(100 * each) for each in memory_shares(jobs, len(gpus))}):
        console.print(
            f"  {jobs} processes on {len(gpus)} GPU{'s' * (len(gpus) > 1)}: each takes at most "
            f"{' or '.join(map(str, shares))} % of one's memory",
            highlight=False,
        )
    settings = ExecutionOptions(
        jobs, options.rule, options.data_dir, tuple(gpus), options.drop_adapters
    )
    outcome = reproduce(plan, settings, console)
    whole = not (outcome.failures or outcome.left_out)
    outcome.left_out += lacking
    # Paths of this machine are nobody's business; what they hold is told by its hash.
    command = shlex.join(["cogcalib", *sys.argv[1:]])

    def warn(text: str) -> None:
        console.print(f"  [yellow]{escape(text)}[/]", soft_wrap=True, highlight=False)

    written = write_results(outcome, options.output, command, options.rule, warn)
    for path in written:
        console.print(f"  {path}", soft_wrap=True, markup=False)
    _show_missing(outcome, console)
    if not whole:
        raise SystemExit(1)
    return [str(path) for path in written]


def _lacking(methods: Sequence[str], options: argparse.Namespace) -> dict[str, str]:
    """Rows that need what is not installed, and what; one that was asked for by name is refused."""
    from cogcalib.harness.reproduce.preflight import lacking_extras

    if options.limit_methods:
        return {}
    return lacking_extras([name for name in methods if name not in options.without])


def _preflight(
    plan: Plan,
    jobs: int,
    gpus: int,
    lacking: Sequence[str],
    options: argparse.Namespace,
    console: Console,
) -> list[Checked]:
    from rich.markup import escape

    from cogcalib.cli.console import write_results
    from cogcalib.harness.reproduce.preflight import preflight, refused

    def tell(each: Checked) -> None:
        mark = "[green]ok[/]" if each.passed else "[bold red]!![/]"
        console.print(f"  {mark} {each.name}: {escape(each.text)}", soft_wrap=True, highlight=False)

    check_writable(options.runs)
    found = preflight(
        plan, jobs, gpus, tell, options.data_dir, drop=options.drop_adapters, lacking=lacking
    )
    if refused(found):
        if options.json is not None:
            write_results(options.json, found)
        raise SystemExit(1)
    return found


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

    for reason in (*outcome.left_out, *outcome.refused):
        console.print(f"  [yellow]left out[/] {escape(reason)}", soft_wrap=True)
    for failure in outcome.failures:
        console.print(f"\n[red]failed[/] {escape(failure.cell.label)}", soft_wrap=True)
        console.print(failure.message, markup=False, highlight=False, soft_wrap=True)
