"""The verb ``run``: the whole flow as a configuration says."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogcalib.cli.console import console, show_run, take_one_device
from cogcalib.cli.names import check_configured
from cogcalib.cli.options import add_shared
from cogcalib.records import input_errors

if TYPE_CHECKING:
    from cogcalib.harness.config import Config

HELP = "train, score and report as a configuration says"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml")
    parser.add_argument("--resume", action="store_true", help="go on with a run begun before")
    add_shared(parser, "--data-dir", "-o", "--runs")


def execute(options: argparse.Namespace) -> Any:
    """Run the configuration that is named; returns the rows of metrics."""
    from cogcalib.harness.config import load_config

    config = load_config(options.config, options.overrides)
    return run_and_show(config, options.runs, resume=options.resume, data_dir=options.data_dir)


def run_and_show(config: Config, runs: Path, *, resume: bool, data_dir: Path | None = None) -> Any:
    """Run a configuration and print its table; returns the rows of metrics."""
    from rich.markup import escape

    from cogcalib.tasks import own_name

    check_configured(config, data_dir)
    terminal = console()
    with input_errors():
        task = own_name(config.tasks.train)
    take_one_device("run")
    path = escape(config.model.path)
    terminal.print(f"\n[bold]cogcalib[/bold] {config.name}: {path}, {escape(task)}")
    from cogcalib import pipeline

    folder = pipeline.run(config, runs, terminal, resume=resume, data_dir=data_dir)
    from cogcalib.harness.report import load_run
    from cogcalib.harness.report.headline import headline
    from cogcalib.harness.report.summary import group_rows

    done = load_run(folder.path)
    show_run(done, headline(done, group_rows(done.rows, in_domain=done.trained_on)[0]))
    return done.rows
