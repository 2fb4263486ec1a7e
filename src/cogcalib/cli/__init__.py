"""The command ``cogcalib``. Exit code 0: success, 1: a failure while running, 2: wrong input.

A module is the verb of its name: it has a line of HELP, adds the verb's options and executes it.
Only the options of the verb that is chosen are built, and nothing heavy is imported before it is
executed. What `execute` returns is what ``--json`` writes.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import takewhile
from types import ModuleType
from typing import NoReturn

from cogcalib import __version__
from cogcalib.cli import (
    compare,
    completion,
    demo,
    doctor,
    guard,
    ledger,
    merge,
    predict,
    probe,
    recalibrate,
    report,
    reproduce,
    run,
    score,
    serve,
    tasks,
    tune,
)
from cogcalib.cli.console import (
    check_new,
    quiet,
    results_alone,
    settle_streams,
    shown,
    write_results,
)
from cogcalib.cli.examples import examples_of
from cogcalib.cli.names import check_names
from cogcalib.cli.options import add_json
from cogcalib.records import InputError, input_errors, path_errors
from cogcalib.suggest import did_you_mean
from cogcalib.termination import EXIT_CODE, TerminatedError, raising_on_sigterm

VERBS = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        run,
        demo,
        tune,
        reproduce,
        probe,
        ledger,
        score,
        predict,
        recalibrate,
        guard,
        merge,
        serve,
        report,
        compare,
        tasks,
        doctor,
        completion,
    )
}
RESUMABLE = (run, demo, tune, reproduce)
"""Verbs that train: SIGTERM ends them after a checkpoint."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and execute the verb; returns the exit code."""
    settle_streams()
    options = parse(sys.argv[1:] if argv is None else argv)
    verb = VERBS[options.verb]
    if verb is completion:
        options.parser = build_parser()
    if verb is not tasks:  # which shows no stages, so that a download may show itself
        quiet()
    ending = raising_on_sigterm() if verb in RESUMABLE else nullcontext()
    try:
        with ending, path_errors(), results_alone(getattr(options, "json", None)):
            _execute(verb, options)
    except InputError as error:
        print(f"cogcalib: {shown(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read what is printed has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains as it leaves
        return 1
    except Exception as error:
        # Weights are written by libraries with errors of their own.
        if "No space left on device" not in str(error):
            raise
        print(f"cogcalib: {shown(str(error))}{_kept(verb, options)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"\ncogcalib: interrupted{_kept(verb, options)}", file=sys.stderr)
        return EXIT_CODE if isinstance(error, TerminatedError) else 1
    return 0


def _execute(verb: ModuleType, options: argparse.Namespace) -> None:
    """Execute a verb and write what it returns, where that is asked for."""
    path = getattr(options, "json", None)
    with input_errors():
        check_new("--json", path)
        if path is not None and path == getattr(options, "output", None):
            raise InputError(f"--json and --output are two files, got {path} for both")
    if verb not in (doctor, reproduce):  # one says all it finds, the other asks for other names
        check_names(options)
    found = verb.execute(options)
    if path is not None and found is not None:  # of several processes one has results
        # What another program reads no other line may disturb.
        piped = verb is completion or getattr(options, "jsonl", False)
        write_results(path, found, sys.stderr if piped else None)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The verb, under ``verb``, and its options; leaves with exit code 2 if they are wrong."""
    chosen = next((word for word in words if not word.startswith("-")), None)
    parser = build_parser(chosen or "")
    if chosen is not None and chosen not in VERBS and (meant := did_you_mean(chosen, VERBS)):
        parser.error(f"there is no verb {chosen!r}{meant}")
    _check_options(parser, chosen, words)
    options, rest = parser.parse_known_args(words)
    late = getattr(VERBS[options.verb], "LATE", None)
    if rest and late and getattr(options, late) is None and (rest[0] == "-" or rest[0][:1] != "-"):
        setattr(options, late, rest.pop(0))
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


def _check_options(
    parser: argparse.ArgumentParser, chosen: str | None, words: Sequence[str]
) -> None:
    """Leave with exit code 2 at an option that the verb does not have.

    argparse would first say which are missing, and the one that is misspelt may be among them.
    """
    verbs = next(each for each in parser._actions if each.dest == "verb").choices
    if chosen not in VERBS or not isinstance(verbs, dict):
        return
    every = [*parser._actions, *verbs[chosen]._actions]
    for each in verbs[chosen]._actions:
        if isinstance(each.choices, dict):  # `tasks show` is a parser in the verb's
            every += [inner for part in each.choices.values() for inner in part._actions]
    known = [name for each in every for name in each.option_strings if name[:2] == "--"]
    for word in takewhile(lambda each: each != "--", words):
        got = word.partition("=")[0]
        # What has a space is a question that was typed, and options may be cut short.
        if word[:2] == "--" and " " not in word and not any(name.startswith(got) for name in known):
            parser.error(f"cogcalib {chosen} has no option {got}{did_you_mean(got, known)}")


class _Parser(argparse.ArgumentParser):
    """A parser that says what was meant where a value is none of its choices."""

    def error(self, message: str) -> NoReturn:
        found = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)$", message)
        if found:
            message += did_you_mean(found[1], re.findall(r"[^\s',]+", found[2]))
        super().error(message)


def build_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """The parser with the options of one verb; those of every verb if None."""
    parser = _Parser(
        prog="cogcalib",
        description="Fine-tune language models so that their confidence can be trusted.",
        epilog=examples_of("cogcalib"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cogcalib {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", dest="verb", required=True)
    for name, verb in VERBS.items():
        added = verbs.add_parser(
            name,
            help=verb.HELP,
            epilog=examples_of(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if chosen in (None, name):
            verb.add_options(added)
            add_json(added)
    return parser


def _kept(verb: ModuleType, options: argparse.Namespace) -> str:
    """What is left of the work of a verb that was interrupted, and how to go on."""
    if verb is run:
        return "; finished stages are kept, --resume goes on"
    if verb in (demo, tune, probe, reproduce):
        return "; what is finished is kept, the same command goes on"
    return score.kept(options) if verb is score else ""
