"""The page on baselines: it names every baseline and post-hoc map."""

from __future__ import annotations

from pathlib import Path

import cogcalib.baselines
import cogcalib.posthoc

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "baselines.md").read_text(encoding="utf-8")


def test_every_public_name_is_explained():
    names = {*cogcalib.posthoc.__all__, *cogcalib.baselines.__all__} - {"Baseline", "Cost"}
    assert [name for name in sorted(names) if f"**`{name}`**" not in PAGE] == []
