"""The verb ``demo``: the whole flow on the embedded model."""

from __future__ import annotations

import argparse
import shutil
from typing import Any

from cogcalib.cli.options import add_shared
from cogcalib.cli.run import run_and_show
from cogcalib.records import InputError

HELP = "the main job on the embedded model, offline, no GPU"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "--fresh", action="store_true", help="begin anew, discarding an earlier demo"
    )
    add_shared(parser, "-o", "--runs")


def execute(options: argparse.Namespace) -> Any:
    """Run the shipped configuration, or go on with it; returns the rows of metrics."""
    from cogcalib.harness.config import shipped_config
    from cogcalib.owned_folder import CONFIG

    config = shipped_config("demo", options.overrides)
    folder = options.runs / config.name
    if options.fresh and config.name != "demo":
        raise InputError(f"--fresh discards the demo's own folder only; remove {folder} yourself")
    if options.fresh and (folder / CONFIG).is_file():
        shutil.rmtree(folder)
    return run_and_show(config, options.runs, resume=True)
