"""The page on baselines: its imports exist, and it names every baseline and post-hoc map."""

from __future__ import annotations

import re
from pathlib import Path

import cogcalib.baselines
import cogcalib.posthoc

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "baselines.md").read_text(encoding="utf-8")


def test_every_import_on_the_page_works():
    found = re.findall(r"^from \S+ import (?:\([^)]*\)|.*)$", PAGE, flags=re.MULTILINE)
    assert len(found) == 7
    for statement in found:
        exec(statement, {})


def test_every_public_name_is_explained():
    names = {*cogcalib.posthoc.__all__, *cogcalib.baselines.__all__} - {"Baseline", "Cost"}
    assert [name for name in sorted(names) if f"**`{name}`**" not in PAGE] == []
