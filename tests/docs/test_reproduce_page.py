"""The page of reproduction says the hours that the plan comes to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import DOCS

from cogcalib.harness.reproduce import load_preset, load_table, make_plan
from cogcalib.harness.reproduce.definitions import table_names
from cogcalib.harness.reproduce.estimate import hours, timed_cells

PAGE = (DOCS / "reproduce.md").read_text(encoding="utf-8").partition("## Hours")[2]


def planned(table: str, model: str, root: Path, *, seeds: int, jobs: int) -> float:
    preset = load_preset(model)
    plan = make_plan(load_table(table), preset, root, seeds=range(seeds), tune_seeds=[0])
    return hours(timed_cells(plan), jobs)


def shown_hours() -> dict[str, float]:
    """Table -> hours on Atlas, off the first table of the section."""
    head, _, row = [line for line in PAGE.splitlines() if line.startswith("|")][:3]
    cells = [[each.strip(" `") for each in line.strip("|").split("|")] for line in (head, row)]
    return dict(zip(cells[0], map(float, cells[1]), strict=True))


def test_hours_on_atlas_are_those_of_the_plan(tmp_path: Path) -> None:
    shown = shown_hours()
    assert sorted(shown) == sorted(table_names())
    found = {name: planned(name, "atlas", tmp_path, seeds=5, jobs=1) for name in shown}
    assert {name: round(each, 1) for name, each in found.items()} == shown


def test_hours_of_the_papers_table_are_those_of_the_plan(tmp_path: Path) -> None:
    (said,) = re.findall(r"`paper` on Llama-3-8B comes to ([\d.]+) hours in four processes", PAGE)
    seeds = load_table("paper").seeds
    found = planned("paper", "meta-llama/Meta-Llama-3-8B", tmp_path, seeds=seeds, jobs=4)
    assert float(said) == pytest.approx(found, abs=0.05)
