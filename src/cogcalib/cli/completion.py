"""The verb ``completion``: a script by which a shell completes verbs, options and files."""

from __future__ import annotations

import argparse

from cogcalib.records import InputError

HELP = "print a script that completes verbs and options in a shell (needs cogcalib[completion])"

SHELLS = ("bash", "zsh", "tcsh")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("shell", choices=SHELLS, help="whose script")


def execute(options: argparse.Namespace) -> dict[str, str]:
    """Print the script and return it; `options.parser` knows every verb."""
    try:
        import shtab
    except ImportError as error:
        raise InputError('completion needs shtab: pip install "cogcalib[completion]"') from error
    script = shtab.complete(options.parser, options.shell)
    print(script)
    return {"shell": options.shell, "script": script}
