"""Every command of ours on a page is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from pages import PAGES, mentioned, name_of, typed

from cogcalib.cli import parse

COMMAND = re.compile(r"(?:^|\| |-m )cogcalib( .*|$)")
USAGE = re.compile(r"\[--|\.\.\.|…")
"""Marks of a template: options in brackets, and what is left to the reader."""
INCOMPLETE = {"run --data-dir DIR"}
"""An option of a verb, named in a sentence."""


def commands(page: Path) -> list[str]:
    """Those to be typed, and those in sentences that give an option its value."""
    found = [match[1].strip() for line in typed(page) if (match := COMMAND.search(line))]
    told = [match[1].strip() for line in mentioned(page) if (match := COMMAND.search(line))]
    found += [each for each in told if re.search(r" -\S+ \S", each) and each not in INCOMPLETE]
    return [each for each in found if not USAGE.search(each)]


SHOWN = [
    pytest.param(each, id=f"{name_of(page)}: {each}") for page in PAGES for each in commands(page)
]


def test_all_are_found() -> None:
    assert len(SHOWN) > 60
    templates = {each for page in PAGES for each in typed(page) if USAGE.search(each)}
    assert len([each for each in templates if each.startswith("cogcalib")]) == 2


@pytest.mark.parametrize("command", SHOWN)
def test_it_is_one(command: str) -> None:
    parse(shlex.split(command, comments=True))
