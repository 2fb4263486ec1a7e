"""Charts of pages carry the right data: where marks stand, not what the pixels show."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from cogcalib.drawing.svg_plot import MARKERS, Plot, number_scale, percent_scale, standalone
from cogcalib.harness.report import Run
from cogcalib.harness.report.bin_charts import bin_panels, bins_of
from cogcalib.harness.report.charts import (
    accuracy_panel,
    ece_panel,
    probe_panels,
    risk_panel,
    threshold_panels,
    training_panels,
)
from cogcalib.harness.report.style import looks
from cogcalib.harness.report.summary import group_rows
from cogcalib.metrics import reliability_curve
from cogcalib.records import ProbeRecord, Threshold

SVG = "{http://www.w3.org/2000/svg}"
CONFIDENCE = np.random.default_rng(0).beta(4, 1, 400)
CORRECT = np.random.default_rng(1).random(400) < CONFIDENCE**2


def titles(svg: str) -> list[str]:
    """What the marks of a chart tell, without the chart's own title."""
    root = ElementTree.fromstring(svg)
    return [each.text or "" for each in root.iter(f"{SVG}title")][1:]


def marks(svg: str, kind: str) -> list[ElementTree.Element]:
    return [each for each in ElementTree.fromstring(svg).iter() if each.get("class") == kind]


def test_a_point_stands_where_its_value_is() -> None:
    plot = Plot(percent_scale("x"), number_scale("y", 0, 10))
    left, top = plot.at(0, 10)
    right, bottom = plot.at(1, 0)
    assert plot.at(0.5, 2.5) == ((left + right) / 2, pytest.approx(bottom - 0.25 * (bottom - top)))
    assert plot.at(7, 0)[0] == right, "what lies outside is held at the edge"


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.0, 0.037), (-3, 12), (0, 123456), (62, 71)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    ticks = number_scale("", low, high).ticks
    assert 3 <= len(ticks) <= 6
    assert all(low <= value <= high * (1 + 1e-9) for value, _ in ticks)
    assert [float(text.replace(",", "")) for _, text in ticks] == pytest.approx(
        [value for value, _ in ticks], rel=1e-4, abs=1e-12
    )
    assert number_scale("", 2, 2).ticks == [(2, "2")]


@pytest.mark.parametrize("shape", MARKERS)
def test_every_marker_is_drawn(shape: str) -> None:
    plot = Plot(percent_scale("x"), percent_scale("y"))
    plot.marker(0.5, 0.5, shape, "#123456", "a <b> & c")
    assert titles(plot.svg("chart", "")) == ["a <b> & c"]


def test_a_line_breaks_where_there_is_no_number() -> None:
    plot = Plot(percent_scale("x"), percent_scale("y"))
    plot.line([(0, 0.1), (0.2, math.nan), (0.4, 0.2), (0.5, 0.3), (0.6, math.inf)], "line")
    (path,) = marks(plot.svg("chart", ""), "line")
    assert (path.get("d") or "").count("M") == 2


def test_a_file_of_its_own_has_its_style_and_says_what_it_shows() -> None:
    text = standalone(Plot(percent_scale("x"), percent_scale("y")).svg("A & <B>", "<b> & more"))
    root = ElementTree.fromstring(text)
    assert root.find(f"{SVG}style") is not None
    assert [root.findtext(f"{SVG}{tag}") for tag in ("title", "desc")] == ["A & <B>", "<b> & more"]


def test_every_method_has_a_look_of_its_own() -> None:
    names = ["base", "sft", "sft+ts", "sft+platt", "cols", "cols-options", "cols-random@0.1", "x"]
    names += [f"somebody's {number}" for number in range(40)]
    found = looks(names)
    assert len({(look.colour, look.marker) for look in found.values()}) == len(names)
    assert len({look.colour for look in looks(names[:8]).values()}) == 8


def test_panels_show_every_method(run: Run, single: Run) -> None:
    for each in (run, single):
        task = group_rows(each.rows)[0]
        look = looks(row.method for row in task.methods)
        for definition in task.definitions:
            shown = titles(ece_panel(task, definition, look).svg)
            assert sum(text == "noise floor" for text in shown) == len(task.methods)
            for row in task.methods:
                mean = 100 * (row.ece[definition].mean or 0)
                assert any(f": {mean:.1f} % [" in text for text in shown)
        accuracies = [100 * (row.accuracy.mean or 0) for row in task.methods]
        told = [
            text.split(": ")[1].split(" %")[0] for text in titles(accuracy_panel(task, look).svg)
        ]
        assert told == [f"{value:.1f}" for value in accuracies]


def test_risk_curves_tell_their_thresholds() -> None:
    curve = [(0.5, 0.1, 0.8), (1.0, 0.3, None)]
    panel = risk_panel({"sft": curve}, looks(["sft"]), "options", "t")
    assert titles(panel.svg) == [
        "SFT: 10.0 % wrong of 50.0 % answered, those from confidence 80.0 %",
        "SFT: 30.0 % wrong of 100.0 % answered",
    ]
    (line,) = marks(panel.svg, "line")
    assert (line.get("d") or "").count("L") == 1


def test_bins_carry_their_numbers() -> None:
    reliability, histogram = bin_panels(
        CONFIDENCE, CORRECT, name="SFT", colour="#000000", definition="vocab", bins=15,
        binning="width",
    )  # fmt: skip
    curve = reliability_curve(CONFIDENCE, CORRECT)
    filled = np.flatnonzero(curve.count).tolist()
    for chart in (reliability, histogram):
        hits = marks(chart.svg, "hit")
        assert [int(each.get("data-bin") or -1) for each in hits] == filled
    told = [re.search(r": ([\d,]+) answers", text) for text in titles(reliability.svg)]
    assert [int(each[1]) for each in told if each] == curve.count[filled].tolist()
    per_bin = np.bincount(bins_of(CONFIDENCE, curve.edges), minlength=15)
    assert per_bin.tolist() == curve.count.tolist()


def test_bins_are_closed_on_the_right() -> None:
    edges = np.arange(16) / 15
    assert bins_of([0.0, 1 / 15, 1 / 15 + 1e-9, 1.0], edges).tolist() == [0, 0, 1, 14]


def test_infinite_thresholds_become_triangles_and_gaps() -> None:
    values = [math.inf, 0.7, -math.inf, 0.5]
    history = [Threshold(v, 0.5, 0.8, 1, 1, step) for step, v in enumerate(values)]
    before_training = Threshold(9.0, 0.5, 0.8, 1, 1, None)
    left, right = threshold_panels({"cols": [[before_training, *history]]}, looks(["cols"]))
    (line,) = marks(left.svg, "line")
    assert (line.get("d") or "").count("M") == 2
    assert [text.split(": ")[1] for text in titles(left.svg)] == [
        "all known (+∞)", "0.7 nats", "none known (-∞)", "0.5 nats",
    ]  # fmt: skip
    assert len(titles(right.svg)) == 4
    assert threshold_panels({"cols": [[before_training]]}, looks(["cols"])) == []


def test_training_panels_show_what_was_logged() -> None:
    log = [{"step": 1, "loss": 2.0, "ce": 1.5, "share_known": 0.25}, {"step": 2, "eval_loss": 1.0}]
    other = [[{"step": 1, "ce": math.nan}]]
    panels = training_panels({"cols": [log], "sft": other}, looks(["cols", "sft"]))
    assert [panel.name for panel in panels] == [
        "Cross-entropy during training", "Share known during training",
    ]  # fmt: skip
    assert training_panels({"cols": [[{"step": 1}]]}, looks(["cols"])) == []


def test_probe_panels_count_categories() -> None:
    probe = [ProbeRecord(str(i), "known" if i else "unknown", 1.0, 0.9, 0.1) for i in range(4)]
    shares, nll = probe_panels(probe)
    assert "known: 3 examples; doubtful: 0 examples; unknown: 1 examples" in shares.svg
    assert sorted(titles(nll.svg)) == ["known: 3", "unknown: 1"]
