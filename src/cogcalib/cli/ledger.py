"""The verb ``ledger``: what a training saw of its examples, pass by pass."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cogcalib.artifacts import check_writable
from cogcalib.cli.console import screen, shown
from cogcalib.records import InputError, input_errors, replacing
from cogcalib.suggest import did_you_mean, hint_first

HELP = "draw how training examples became known, and which were forgotten"

SHOWN = 10


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="a run folder, or the output folder of a training"
    )
    parser.add_argument("--method", help="of a run: whose training (the first with a ledger)")
    parser.add_argument("--seed", type=int, metavar="N", help="of a run: which seed (the first)")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="a new file, .png or .svg (RUN/ledger.png)"
    )


def execute(options: argparse.Namespace) -> Any:
    """Print the passes and draw them; returns them, and which examples were forgotten."""
    from cogcalib.harness.report.ledger_figure import ledger_figure
    from cogcalib.knowledge.ledger import read_ledger
    from cogcalib.knowledge.ledger_epochs import Passes

    with input_errors():
        folder, name = _training(options.run, options.method, options.seed)
        output = options.output or folder / "ledger.png"
        if output.suffix not in (".png", ".svg") or (options.output and output.exists()):
            raise InputError(f"output must be a new file that ends in .png or .svg, got {output}")
        check_writable(output)
        passes = Passes(read_ledger(folder))
    summaries = passes.summaries()
    _print(summaries, name)
    forgotten = passes.forgotten()
    print(f"\nKnown once and not at the last pass: {len(forgotten)} examples")
    for example in forgotten[:SHOWN]:
        print(f"  {shown(example)}")
    if len(forgotten) > SHOWN:
        print(f"  and {len(forgotten) - SHOWN} more")
    with replacing(output) as temporary:
        ledger_figure(summaries, name).savefig(temporary, format=output.suffix[1:], dpi=150)
    print(f"\nDrawn: {output}")
    return {"passes": summaries, "forgotten": list(forgotten)}


def _training(run: Path, method: str | None, seed: int | None) -> tuple[Path, str]:
    """The folder of the training meant, and how to call it.

    Raises:
        FileNotFoundError: If there is no folder, or no ledger that fits, naming those there are.
    """
    from cogcalib.harness.config.methods import Method
    from cogcalib.harness.run_folder import RunFolder
    from cogcalib.knowledge.ledger import has_ledger

    if not run.is_dir():
        kind = "is a file, not the folder of a training" if run.exists() else "is not there"
        raise FileNotFoundError(f"{run} {kind}")
    if has_ledger(run):
        return run, run.name
    # A method such as cols+ts is trained as another.
    method = method and Method.read(method).trained
    found = RunFolder(run).ledgers()
    fitting = [
        path for (name, number), path in found if method in (None, name) and seed in (None, number)
    ]
    if not fitting:
        trained = sorted({key for key, _ in (*RunFolder(run).logs(), *found)})
        if not trained:
            raise FileNotFoundError(
                f"{run}: holds no training, neither as a run folder nor as the output of a trainer"
            )
        asked = [
            (name, number)
            for name, number in trained
            if method in (None, name) and seed in (None, number)
        ]
        meant = did_you_mean(method or "", [name for name, _ in trained])
        raise FileNotFoundError(
            hint_first(
                f"{run}: {_none(asked, method, seed)}",
                meant,
                f"there are trainings of {_names(trained)}, with a ledger "
                f"{_names(key for key, _ in found)}",
            )
        )
    return fitting[0], f"{fitting[0].parent.name}, {fitting[0].name}"


def _none(asked: list[tuple[str, int]], method: str | None, seed: int | None) -> str:
    if asked:
        return f"{_names(asked)} kept no ledger: trained without a gate, or with ledger=False"
    wanted = [f"method {method}"] * (method is not None) + [f"seed {seed}"] * (seed is not None)
    return f"no training of {', '.join(wanted)}" if wanted else "no training"


def _names(keys: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} seed-{seed}" for name, seed in keys) or "none"


def _print(summaries: Any, name: str) -> None:
    from rich.markup import escape
    from rich.table import Column, Table

    from cogcalib.harness.terminal_tables import show_table

    titles = ("pass", "step", "n", "known %", "learnt %", "forgotten %", "penalty")
    measures = ("correct", "conf.")
    halves = [f"{half} at first: {what} %" for half in ("known", "unknown") for what in measures]
    table = Table(
        *(Column(title, justify="right") for title in (*titles, *halves)), title=escape(name)
    )
    for each in summaries:
        shares = [f"{100 * value:.1f}" for value in (each.known, each.learnt, each.forgotten)]
        pairs = [each.at_first[half] or (None, None) for half in ("known", "unknown")]
        split = ["-" if value is None else f"{100 * value:.1f}" for pair in pairs for value in pair]
        table.add_row(
            str(each.number), str(each.step), str(each.n), *shares, f"{each.penalty:.3f}", *split
        )
    show_table(table, screen(140))
