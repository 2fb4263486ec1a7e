"""The command ``cogcalib``. Exit code 0: success, 1: a failure while running, 2: wrong input.

One module per verb adds its arguments and runs it; nothing heavy is imported before a verb runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cogcalib import __version__
from cogcalib.cli import ledger, probe, report, reproduce, run, score, tasks, tune
from cogcalib.records import InputError

VERBS = (run, tune, reproduce, probe, ledger, score, report, tasks)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and run the verb; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        options.verb(options)
    except InputError as error:
        print(f"cogcalib: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ncogcalib: interrupted{_kept(options)}", file=sys.stderr)
        return 1
    return 0


def _kept(options: argparse.Namespace) -> str:
    """What is left of the work of a verb that was interrupted, and how to go on."""
    module = options.verb.__module__
    if module == run.__name__:
        return "; finished stages are kept, --resume goes on"
    if module in (tune.__name__, probe.__name__, reproduce.__name__):
        return "; what is finished is kept, the same command goes on"
    return score.kept(options) if module == score.__name__ else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cogcalib",
        description="Fine-tune language models so that their confidence can be trusted.",
    )
    parser.add_argument("--version", action="version", version=f"cogcalib {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for module in VERBS:
        module.add_to(verbs)
    return parser
