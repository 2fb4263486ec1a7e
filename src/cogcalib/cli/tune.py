"""The verb ``tune``: choose alphas, margins and supports on the calibration split."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from cogcalib.cli.console import console as terminal
from cogcalib.cli.console import take_one_device
from cogcalib.cli.names import check_configured
from cogcalib.cli.options import add_shared

HELP = "choose alpha, margin and support of each penalty on the calibration split"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml")
    add_shared(parser, "--rule")
    parser.add_argument(
        "--seeds", type=int, nargs="+", metavar="SEED", help="seeds of the trials (the run's)"
    )
    parser.add_argument(
        "--budget", type=int, metavar="N", help="trainings of each seed at most, SFT apart (all)"
    )
    add_shared(parser, "--runs", "--data-dir", "-o")


def execute(options: argparse.Namespace) -> Any:
    """Try, choose, and say what was chosen; returns the record of the choices."""
    from rich.markup import escape

    from cogcalib.harness.config import load_config

    config = load_config(options.config, options.overrides)
    check_configured(config, options.data_dir)
    take_one_device("tune")
    from cogcalib.harness.run_folder import RunFolder
    from cogcalib.harness.tuning import tune

    console = terminal()
    path = tune(
        config,
        options.runs,
        console,
        rule=options.rule,
        seeds=options.seeds,
        budget=options.budget,
        data_dir=options.data_dir,
    )
    folder = RunFolder(path)
    record = json.loads(folder.tune_record.read_text(encoding="utf-8"))
    for choice in record["choices"]:
        console.print(f"  {choice['chosen']}: {choice['reason']}", markup=False)
    for choice in record["supports"]:
        console.print(f"  {choice['method']}, support {choice['reason']}", markup=False)
    best = record["recommended"]
    if best and len(record["choices"]) > 1:
        console.print(f"  best of these, {best['chosen']}: {best['reason']}", markup=False)
    tuned = escape(str(folder.tuned_config))
    console.print(f"\nNow: [bold]cogcalib run {tuned}[/bold]\n", soft_wrap=True)
    return record
