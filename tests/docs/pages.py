"""The pages that a reader meets, and the code in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
HISTORY = {DOCS / "lab-log.md"}
"""Tells what was run once; what it names may be gone."""
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(set(DOCS.rglob("*.md")) - HISTORY)]
FENCE = r"^( *)```{language}\n(.+?)^\1```"


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
    return [" ".join(line.split()) for line in shell.replace("\\\n", " ").splitlines()]


def mentioned(page: Path) -> list[str]:
    """Code within its sentences."""
    sentences = re.sub(r"^    .*", "", _prose(page), flags=re.M)
    return [" ".join(each.split()) for each in re.findall(r"`([^`]+)`", sentences)]


def _prose(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    return re.sub(FENCE.format(language=r"\w*"), "", text, flags=re.S | re.M)
