"""Every command of ours on a page is one that the command line takes."""

from __future__ import annotations

import shlex

import pytest
from pages import OURS, PAGES, USAGE, commands, name_of, typed

from cogcalib.cli import parse

SHOWN = [
    pytest.param(ours[1].strip(), id=f"{name_of(page)}: {ours[1].strip()}")
    for page in PAGES
    for each in commands(page)
    if (ours := OURS.search(each))
]


def test_all_are_found() -> None:
    assert len(SHOWN) > 60
    templates = {each for page in PAGES for each in typed(page) if USAGE.search(each)}
    assert len([each for each in templates if each.startswith("cogcalib")]) == 2


@pytest.mark.parametrize("command", SHOWN)
def test_it_is_one(command: str) -> None:
    parse(shlex.split(command, comments=True))
