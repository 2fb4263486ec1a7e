"""The verb ``tune``: choose strengths, margins and supports on the calibration split."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cogcalib.cli.console import quiet

RULES = ("ece", "nll")


def add_to(verbs: Any) -> None:
    """Add the verb to the command line."""
    verb = verbs.add_parser(
        "tune", help="choose the strength of each penalty on the calibration split"
    )
    verb.add_argument("config", type=Path, metavar="CONFIG.yaml")
    verb.add_argument(
        "--rule",
        choices=RULES,
        default="ece",
        help="lowest ECE at SFT's accuracy, or lowest NLL (ece)",
    )
    verb.add_argument(
        "--seeds", type=int, nargs="+", metavar="SEED", help="seeds of the trials (the run's)"
    )
    verb.add_argument(
        "--budget", type=int, metavar="N", help="trainings of each seed at most, SFT apart (all)"
    )
    verb.add_argument("--runs", type=Path, default=Path("runs"), help="folder of run folders")
    verb.add_argument("--data-dir", type=Path, metavar="DIR", help="folder of local data sets")
    verb.add_argument(
        "-o",
        dest="overrides",
        action="append",
        default=[],
        metavar="section.key=value",
        help="change one value of the configuration; may be given several times",
    )
    verb.set_defaults(verb=_tune)


def _tune(options: argparse.Namespace) -> None:
    import json

    from rich.console import Console

    from cogcalib.harness.config import load_config

    config = load_config(options.config, options.overrides)
    quiet()
    from cogcalib.harness.run_folder import RunFolder
    from cogcalib.harness.tuning import tune

    console = Console()
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
    console.print(f"\nNow: [bold]cogcalib run {folder.tuned_config}[/bold]\n", soft_wrap=True)
