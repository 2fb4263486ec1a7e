"""The verb ``guard``: thresholds below which a model abstains, with a guarantee on its errors."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from cogcalib.artifacts import check_writable
from cogcalib.cli.console import endpoint_errors, progress_bar, screen, shown
from cogcalib.cli.options import add_access, read_fields
from cogcalib.records import InputError, input_errors

if TYPE_CHECKING:
    from cogcalib.deployment.guarding import Guarded

HELP = "find the confidence below which to abstain, so that errors stay under a target"

FIGURES = (".png", ".svg")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "model", metavar="MODEL", help="folder of a model with its calibration.json, or a hub id"
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FILE",
        help=".jsonl, .csv or .parquet: held-out questions with answers, which nothing was "
        "trained on or fitted to",
    )
    parser.add_argument(
        "--target-error",
        type=float,
        nargs="+",
        required=True,
        metavar="X",
        help="largest error among answered questions, such as 0.05; the first is in force",
    )
    parser.add_argument(
        "--delta", type=float, default=0.1, metavar="X", help="chance that a promise fails (0.1)"
    )
    parser.add_argument(
        "--out-of-domain",
        type=Path,
        metavar="FILE",
        help="other questions, on which the thresholds are tried without a promise",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="DIR",
        help="folder that has calibration.json instead; the rules are written there",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder for calibration.json with its rules"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="risk-coverage curve, a new .png or .svg"
    )
    add_access(parser)


def execute(options: argparse.Namespace) -> Any:
    """Find thresholds, write them, and say what they promise; returns rules and promises."""
    from cogcalib.deployment.access import ModelAccess

    with input_errors():
        access = ModelAccess(**read_fields(options, ModelAccess))
        _check_plot(options.plot)
    from cogcalib.deployment.guarding import guard, risk_coverage_curve

    with endpoint_errors(), progress_bar("guard") as told:
        found = guard(
            options.model,
            options.data,
            options.target_error,
            access,
            delta=options.delta,
            out_of_domain=options.out_of_domain,
            calibration=options.calibration,
            output=options.output,
            progress=told,
        )
    _show(found, options)
    if options.plot is not None:
        risk_coverage_curve(found).savefig(options.plot, dpi=160)
        print(shown(f"Risk-coverage curve: {options.plot}"))
    return {"rules": found.rules, "guarantees": found.guarantees, "elsewhere": found.elsewhere,
            "folder": found.folder}  # fmt: skip


def _check_plot(path: Path | None) -> None:
    if path is None:
        return
    if path.suffix not in FIGURES:
        raise InputError(f"plot must end in {' or '.join(FIGURES)}, got {path.name}")
    if path.exists():
        raise InputError(f"{path} exists already; remove it or choose another plot")
    check_writable(path)


def _show(found: Guarded, options: argparse.Namespace) -> None:
    from cogcalib.harness.terminal_tables import show_table

    n = found.guarantees[0].n
    table = Table(title=f"{options.data.name} · n = {n:,}", title_justify="left")
    for header in ("error at most %", "answer from %", "answered %", "wrong of these"):
        table.add_column(header, justify="right")
    if found.elsewhere:
        table.add_column("out of domain: answered %, wrong %", justify="right")
    for place, each in enumerate(found.guarantees):
        row = [f"{100 * each.target_error:g}"]
        if each.threshold is None:
            row += ["no promise", "0", ""]
        else:
            low, high = each.coverage_interval
            row += [
                f"{100 * each.threshold:.1f}",
                f"{100 * each.coverage:.1f} [{100 * low:.1f}–{100 * high:.1f}]",  # noqa: RUF001
                f"{each.errors} of {each.answered}",
            ]
        if found.elsewhere:
            there = found.elsewhere[place]
            error = "" if there.error is None else f", {100 * there.error:.1f}"
            row.append(f"{100 * there.coverage:.1f}{error}")
        table.add_row(*row)
    show_table(table, screen())
    for each, rule in zip(found.guarantees, found.rules, strict=True):
        name = f"{100 * each.target_error:g} %"
        if rule.reason:
            print(f"{name}: nothing is promised: {rule.reason}.")
        if each.least_abstention > 0:
            print(
                f"{name}: the model is wrong on {100 * each.base_error:.1f} %, so that no rule can "
                f"abstain on less than {100 * each.least_abstention:.1f} %."
            )
    print(
        f"A promise holds with probability {100 * (1 - options.delta):g} % over the draw of these "
        "questions, each by itself, for questions that are drawn like them; for no others."
    )
    print(shown(f"Written: {found.folder / 'calibration.json'}"))
    force = found.rules[0]
    effect = "" if force.threshold is not None else ": every answer abstains"
    print(f"In force: {100 * force.target_error:g} %{effect}. Others by --target-error.")
