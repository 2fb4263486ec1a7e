"""The pages that a reader meets, and the code in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
HISTORY = {DOCS / "lab-log.md"}
"""Tells what was run once; what it names may be gone."""
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(set(DOCS.rglob("*.md")) - HISTORY)]
FENCE = r"^( *)```{language}\n(.+?)^\1```"

PROGRAM = re.compile(r"(?:[A-Z_]+=\S+ )*[a-z][\w.-]*(?: |$)")
OURS = re.compile(r"(?:^|\| |-m |; do |[A-Z_]=\S+ )cogcalib( .*?|)(?:; done)?$")
"""A command of ours: behind a pipe, a launcher, a loop or a variable too."""
USAGE = re.compile(r"\[--|\.\.\.|…")
INCOMPLETE = {"cogcalib run --data-dir DIR", "cogcalib score --model merged"}
"""An option of a verb, named in a sentence."""


def name_of(page: Path) -> str:
    """``README``, ``metrics``, ``results/main-atlas``."""
    folder = DOCS if page.is_relative_to(DOCS) else ROOT
    return page.relative_to(folder).with_suffix("").as_posix()


def blocks(page: Path, language: str = "python") -> list[str]:
    """The blocks of code in one language."""
    text = page.read_text(encoding="utf-8")
    return [found[1] for found in re.findall(FENCE.format(language=language), text, re.S | re.M)]


def typed(page: Path) -> list[str]:
    """What it tells a reader to type: lines of shell and indented blocks, continued ones whole."""
    shell = "\n".join([*blocks(page, "(?:ba)?sh"), *re.findall(r"^    .*", _prose(page), re.M)])
    lines, begun = [], ""
    for line in shell.replace("\\\n", " ").splitlines():
        begun = f"{begun} {line.strip()}".strip()
        if not _has_open_quote(begun):
            lines.append(" ".join(begun.split()))
            begun = ""
    if begun:
        raise ValueError(f"{name_of(page)}: a quote is never closed in: {begun}")
    return [line for line in lines if line]


def commands(page: Path) -> list[str]:
    """All that it tells to type, and commands of ours in sentences that give an option its value.

    Formulas, directives and templates (options in brackets, what is left to the reader) are none.
    """
    found = [each for each in typed(page) if PROGRAM.match(each) and " = " not in each]
    for each in mentioned(page):
        ours = OURS.search(each)
        if ours and re.search(r" -\S+ \S", ours[1]) and each not in INCOMPLETE:
            found.append(each)
    return [each for each in found if not USAGE.search(each)]


def mentioned(page: Path) -> list[str]:
    """Code within its sentences."""
    sentences = re.sub(r"^    .*", "", _prose(page), flags=re.M)
    return [" ".join(each.split()) for each in re.findall(r"`([^`]+)`", sentences)]


def _has_open_quote(text: str) -> bool:
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return True
    return False


def _prose(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    return re.sub(FENCE.format(language=r"\w*"), "", text, flags=re.S | re.M)
