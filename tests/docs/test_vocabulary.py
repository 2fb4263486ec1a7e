"""The words of pages and reports are those of the field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The lab log is history; a table of docs/results is rewritten when it is made again.
PAGES = sorted(page for page in (ROOT / "docs").glob("*.md") if page.name != "lab-log.md")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
SHOWN = sorted((ROOT / "src").rglob("*.j2")) + sorted((ROOT / "src").rglob("tables/*.yaml"))

WORDS = {
    r"\bright (answer|option|one|prediction)s?\b": "correct",
    r"\b(is|are|was|were) right\b": "is correct",
    r"\blikel(ier|iest)\b": "more, most probable; of lower NLL",
    r"\bin the place of\b": "instead of, for",
    r"(?<![`\"'])\bstrengths?\b(?!\.json)": "alpha",
}


@pytest.mark.parametrize("file", PAGES + SHOWN, ids=lambda file: file.name)
def test_words_are_those_of_the_field(file: Path) -> None:
    text = " ".join(file.read_text(encoding="utf-8").split())
    for old, better in WORDS.items():
        found = re.search(rf".{{0,30}}{old}.{{0,30}}", text, re.IGNORECASE)
        assert found is None, f"{found[0]!r}: say {better}"


def test_old_words_are_found() -> None:
    for text in ("whether the answer is right", "Strengths are chosen", "the likeliest"):
        assert any(re.search(old, text, re.IGNORECASE) for old in WORDS)
