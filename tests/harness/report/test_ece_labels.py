"""No ECE is printed without number of bins, binning, confidence definition and n beside it."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
from rich.console import Console

from cogcalib.harness.report import Run, markdown_table, metrics_table
from cogcalib.harness.report.html import render_html
from cogcalib.harness.report.summary import group_rows

LABEL = re.compile(r"(\d+) equal-(width|mass) bins,?\s+confidence: (\w+),?\s+n = ([\d,]+)")
BLOCKS = ("header", "figure", "table")
"""What one label covers: the findings, a figure with its caption, a table with its note."""


def printed(rows: Any) -> list[str]:
    """Each terminal table on one line."""
    texts = []
    for table in metrics_table(rows):
        console = Console(width=120, file=io.StringIO(), force_terminal=False)
        console.print(table)
        if "ranking and use" in str(table.title):
            continue
        texts.append(" ".join(console.file.getvalue().split()))  # type: ignore[attr-defined]
    return texts


def blocks(page: str) -> list[str]:
    """The text of every block of the page that shows an ECE, and of what lies between them."""
    body = page[page.index("<main>") :]
    # A table and the note behind it are one.
    ends = "|".join(rf"(?s:<{tag}\b.*?</{tag}>)" for tag in BLOCKS)
    note = r"(?:\s*</div>\s*<p class=\"note\">(?s:.*?)</p>)?"
    found = [match.group() for match in re.finditer(f"(?:{ends}){note}", body)]
    rest = re.sub(f"(?:{ends}){note}", " ", body)
    return [" ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split()) for text in (*found, rest)]


def shows_ece(text: str) -> bool:
    """Whether there is a figure where an ECE is named."""
    return bool(re.search(r"\bECE\b[^.]*?\d\.\d", text))


def test_every_block_of_the_page_says_how_its_ece_was_made(run: Run, single: Run) -> None:
    for each in (run, single):
        *found, rest = blocks(render_html(each))
        showing = [text for text in found if shows_ece(text)]
        # The findings; for each of two tasks and definitions a chart and a table; a diagram for
        # each of eight methods and definition.
        assert len(showing) == 1 + 2 * 2 * 2 + 2 * 8
        for text in showing:
            match = LABEL.search(text)
            assert match, text[:300]
            assert match.groups()[:2] == ("15", "width")
            assert match[3] in ("options", "vocab")
        # Chart and table of atlas/capital have fewer questions.
        numbers = [match.group(4) for text in showing if (match := LABEL.search(text))]
        assert sorted(numbers) == ["1,000"] * 21 + ["150"] * 4
        assert not shows_ece(rest)


def test_tables_say_how_their_ece_was_made(run: Run) -> None:
    texts = [*printed(run.rows), *re.split(r"(?m)^(?=\*\*atlas/)", markdown_table(run.rows))[1:]]
    assert len(texts) == 4
    for text in texts:
        match = LABEL.search(text)
        assert match, text
        assert match.group(4) == ("150" if "atlas/capital" in text else "1,000")
        assert "ECE % vocab" in text
        assert "ECE % options" in text


def test_the_label_follows_the_rows(run: Run) -> None:
    def other(row: Any) -> dict[str, Any]:
        ece = {name: {**each, "bins": 10, "binning": "mass"} for name, each in row["ece"].items()}
        return dict(row) | {"ece": ece}

    changed = tuple(other(row) for row in run.rows)
    page = render_html(replace(run, rows=changed))
    assert "10 equal-mass bins" in page
    assert "15 equal-width" not in page
    with pytest.raises(ValueError, match="differ in their bins"):
        group_rows([changed[0], *run.rows[1:]])


def test_rows_from_before_bins_were_noted_have_the_standard_ones(run: Run) -> None:
    def plain(row: Any) -> dict[str, Any]:
        ece = {
            name: {key: each[key] for key in ("value", "low", "high")}
            for name, each in row["ece"].items()
        }
        return dict(row) | {"ece": ece}

    old = [plain(row) for row in run.rows]
    assert group_rows(old)[0].ece_label == "15 equal-width bins, confidence: options, n = 1,000"


def test_methods_with_different_n_show_each(run: Run) -> None:
    rows = [dict(row) for row in run.rows if row["seed"] == 0 and row["task"] == "atlas/country"]
    rows[0]["n"] = 600
    (text,) = printed([row for row in rows if row["split"] == "test"])
    assert "n = 600 to 1,000" in text
    assert re.search(r"Base 600\b", text)
