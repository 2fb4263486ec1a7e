"""The verbs ``run`` and ``demo``: the whole flow as a configuration says."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogcalib.cli.console import quiet, show_run
from cogcalib.records import InputError

if TYPE_CHECKING:
    from cogcalib.harness.config import Config

RUNS = Path("runs")


def add_to(verbs: Any) -> None:
    """Add both verbs to the command line."""
    run = verbs.add_parser("run", help="train, score and report as a configuration says")
    run.add_argument("config", type=Path, metavar="CONFIG.yaml")
    run.add_argument("--resume", action="store_true", help="go on with a run begun before")
    run.add_argument("--data-dir", type=Path, metavar="DIR", help="folder of local data sets")
    run.set_defaults(verb=_run)

    demo = verbs.add_parser("demo", help="the main job on the embedded model, offline, no GPU")
    demo.add_argument("--fresh", action="store_true", help="begin anew, discarding an earlier demo")
    demo.set_defaults(verb=_demo)
    for verb in (run, demo):
        verb.add_argument(
            "-o",
            dest="overrides",
            action="append",
            default=[],
            metavar="section.key=value",
            help="change one value of the configuration; may be given several times",
        )
        verb.add_argument("--runs", type=Path, default=RUNS, help="folder of run folders (runs)")


def _run(options: argparse.Namespace) -> None:
    from cogcalib.harness.config import load_config

    config = load_config(options.config, options.overrides)
    _execute(config, options.runs, resume=options.resume, data_dir=options.data_dir)


def _demo(options: argparse.Namespace) -> None:
    from cogcalib.harness.config import shipped_config
    from cogcalib.owned_folder import CONFIG

    config = shipped_config("demo", options.overrides)
    folder = options.runs / config.name
    if options.fresh and config.name != "demo":
        raise InputError(f"--fresh discards the demo's own folder only; remove {folder} yourself")
    if options.fresh and (folder / CONFIG).is_file():
        shutil.rmtree(folder)
    _execute(config, options.runs, resume=True)


def _execute(config: Config, runs: Path, *, resume: bool, data_dir: Path | None = None) -> None:
    from rich.console import Console

    console = Console()
    console.print(
        f"\n[bold]cogcalib[/bold] {config.name}: {config.model.path}, {config.tasks.train}"
    )
    quiet()
    from cogcalib import pipeline

    folder = pipeline.run(config, runs, console, resume=resume, data_dir=data_dir)
    show_run(folder.path)
