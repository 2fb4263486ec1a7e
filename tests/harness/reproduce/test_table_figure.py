"""The figure of a table with many tasks: titles apart, every method in a colour of its own."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cogcalib.harness.reproduce.table_figure import ABREAST, draw_errors

RECORD = Path(__file__).resolve().parents[3] / "docs" / "results" / "main-atlas.json"


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def figure(record: dict[str, Any]) -> Figure:
    drawn = draw_errors(record)
    FigureCanvasAgg(drawn).draw()
    return drawn


def test_titles_of_panels_do_not_overlap(figure: Figure, record: dict[str, Any]) -> None:
    titles = []
    for part in figure.subfigs[:-1]:
        shown = [axes for axes in part.axes if axes.get_visible()]
        assert len(shown) <= ABREAST
        boxes = [axes._left_title.get_window_extent() for axes in shown]
        titles += [axes.get_title(loc="left") for axes in shown]
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
        assert boxes[-1].x1 <= figure.bbox.x1
    assert titles == [group["task"] for group in record["results"]]


def test_each_curve_has_its_own_colour_and_marker(figure: Figure) -> None:
    lines = figure.subfigs[-1].axes[0].get_lines()
    assert {"base", "cols-options-gap"} <= {str(x.get_label()) for x in lines}
    assert len({line.get_color() for line in lines}) == len(lines)
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == len(lines)
