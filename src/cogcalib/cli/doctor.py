"""The verb ``doctor``: what is installed and at hand, whether a model fits, what mends the rest."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cogcalib.cli.console import screen, write_results
from cogcalib.records import input_errors

if TYPE_CHECKING:
    from cogcalib.cli.findings import Finding

HELP = "look at what is installed and at hand, and at a model, and say what mends the rest"

_MARKS = {"ok": "ok", "note": "--", "broken": "!!"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="a folder, a hub id or atlas; its tokenizer and configuration are read, no weights",
    )
    parser.add_argument("--base", metavar="MODEL", help="base model of an adapter")


def execute(options: argparse.Namespace) -> list[Finding]:
    """Print the findings and return them; exit code 1 if something needed is broken."""
    from cogcalib.cli.findings import BROKEN, environment, reachable

    with input_errors():
        if options.base is not None and options.model is None:
            raise ValueError("--base goes with a MODEL, the adapter")
        found = list(environment())
        if options.model is not None:
            from cogcalib.cli.model_findings import model_findings

            with reachable(found):
                found += model_findings(options.model, options.base)
    _show(found)
    if any(each.state == BROKEN for each in found):
        if options.json is not None:
            write_results(options.json, found)
        raise SystemExit(1)
    return found


def _show(found: Sequence[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    terminal = screen()
    for section in dict.fromkeys(each.section for each in found):
        table = Table(
            box=None, show_header=False, title=Text(section, "bold"), title_justify="left"
        )
        rows = [each for each in found if each.section == section]
        for each in rows:
            style = {"broken": "bold red", "note": "yellow"}.get(each.state, "green")
            mark = Text(_MARKS[each.state], style)
            table.add_row(mark, Text(each.name, no_wrap=True), Text(each.text))
        terminal.print(table)
        terminal.print()
    remedies = [each for each in found if each.remedy]
    if not remedies:
        terminal.print("Nothing is missing.")
        return
    terminal.print(Text("What mends the rest (!! is needed, -- only for some things)", "bold"))
    for each in sorted(remedies, key=lambda each: each.state != "broken"):
        # Not wrapped: a command is there to be copied.
        line = Text(f"{_MARKS[each.state]} {each.name}: {each.remedy}")
        terminal.print(line, soft_wrap=True)
