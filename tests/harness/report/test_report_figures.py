"""Figures carry the right data: what the artists hold, not what the pixels show."""

from __future__ import annotations

import math
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.lines import Line2D

from cogcalib.drawing.canvas import to_svg
from cogcalib.drawing.reliability import confidence_histogram, reliability_diagram
from cogcalib.harness.report import Run
from cogcalib.harness.report.figures import (
    ece_chart,
    probe_chart,
    risk_coverage_chart,
    threshold_history,
    training_curves,
)
from cogcalib.harness.report.style import colour
from cogcalib.harness.report.summary import group_rows
from cogcalib.metrics import expected_calibration_error, reliability_curve
from cogcalib.records import ProbeRecord, Threshold

CONFIDENCE = np.random.default_rng(0).beta(4, 1, 400)
CORRECT = np.random.default_rng(1).random(400) < CONFIDENCE**2


def ys(line: Line2D) -> list[float]:
    return np.asarray(line.get_ydata(), float).tolist()


def xs(line: Line2D) -> list[float]:
    return np.asarray(line.get_xdata(), float).tolist()


def heights(container: object) -> list[float]:
    return [bar.get_height() for bar in container]  # type: ignore[attr-defined]


def test_reliability_diagram_draws_the_curve() -> None:
    curve = reliability_curve(CONFIDENCE, CORRECT)
    filled = curve.count > 0
    upper, lower = reliability_diagram(CONFIDENCE, CORRECT, definition="vocab", title="SFT").axes
    accuracy, gap = upper.containers
    assert heights(accuracy) == pytest.approx(curve.accuracy[filled])
    assert heights(gap) == pytest.approx(curve.gap[filled])
    bottoms = [bar.get_y() for bar in gap]
    assert bottoms == pytest.approx(np.minimum(curve.accuracy, curve.confidence)[filled])
    assert heights(lower.containers[0]) == pytest.approx(curve.count)
    assert upper.get_xlim() == lower.get_xlim() == (0, 1)
    ece = expected_calibration_error(CONFIDENCE, CORRECT)
    label = "15 equal-width bins\nconfidence: vocab, n = 400"
    assert upper.texts[0].get_text() == f"ECE {100 * ece:.1f} %, {label}"


def test_histogram_splits_correct_from_wrong() -> None:
    (axes,) = confidence_histogram(CONFIDENCE, CORRECT).axes
    right, wrong = (heights(container) for container in axes.containers)
    edges = np.arange(16) / 15
    expected = np.histogram(CONFIDENCE[~CORRECT], edges)[0] / (~CORRECT).sum()
    assert wrong == pytest.approx(-expected)
    assert sum(right) == pytest.approx(1)
    assert axes.texts[0].get_text().startswith(f"{CORRECT.sum()} correct, mean ")


def test_histogram_of_only_correct_answers() -> None:
    (axes,) = confidence_histogram([0.5, 1.0], [True, True]).axes
    assert axes.texts[0].get_text() == "2 correct, mean 75 %"


def test_every_method_has_its_risk_coverage_curve_and_its_noise_floor(run: Run) -> None:
    task = group_rows(run.rows)[0]
    (axes,) = risk_coverage_chart(task).axes
    for line, row in zip(axes.lines, task.methods, strict=True):
        assert xs(line) == pytest.approx([coverage for coverage, _ in row.risks])
        assert ys(line) == pytest.approx([risk for _, risk in row.risks])
        assert ys(line)[-1] == pytest.approx(1 - (row.accuracy.mean or 0))
    left, _ = ece_chart(task).axes
    bands = [bar for container in left.containers for bar in container]
    ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in bands]
    floors = [row.floor["options"] or (0, 0) for row in task.methods]
    assert ends == [pytest.approx((100 * low, 100 * high)) for low, high in floors]
    bare = replace(task, methods=tuple(replace(row, risks=()) for row in task.methods))
    with pytest.raises(ValueError, match="at least one risk-coverage curve"):
        risk_coverage_chart(bare)


def test_infinite_thresholds_become_triangles_and_gaps() -> None:
    values = [math.inf, 0.7, -math.inf, 0.5]
    history = [Threshold(v, 0.5, 0.8, 1, 1, step) for step, v in enumerate(values)]
    before_training = Threshold(9.0, 0.5, 0.8, 1, 1, None)
    left, right = threshold_history({"cols": [[before_training, *history]]}).axes
    line, up, down = left.lines
    assert ys(line) == pytest.approx([np.nan, 0.7, np.nan, 0.5], nan_ok=True)
    assert line.get_color() == colour("cols")
    assert (xs(up), up.get_marker()) == ([0], "^")
    assert (xs(down), down.get_marker()) == ([2], "v")
    assert left.get_ylim()[1] < 1, "infinity must not stretch the scale"
    assert ys(right.lines[0]) == [50.0] * 4


def test_threshold_history_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one threshold with a step"):
        threshold_history({"cols": [[Threshold(1.0, 0.5, 0.8, 1, 1)]]})


def test_training_curves_show_what_was_logged() -> None:
    log = [{"step": 1, "loss": 2.0, "ce": 1.5, "share_known": 0.25}, {"step": 2, "eval_loss": 1.0}]
    ce, known = training_curves({"cols": [log], "sft": [[{"step": 1, "ce": math.nan}]]}).axes
    assert [ys(line) for line in ce.lines][1] == [1.5]
    assert np.isnan(ys(ce.lines[0])).all()
    assert ys(known.lines[1]) == [25.0]
    with pytest.raises(ValueError, match="at least one of"):
        training_curves({"cols": [[{"step": 1}]]})


def test_ece_chart_shows_every_method(run: Run, single: Run) -> None:
    for each in (run, single):
        task = group_rows(each.rows)[0]
        left, right = ece_chart(task).axes
        for axes, values in (
            (left, [task.ece(row.method).mean for row in task.methods]),
            (right, [row.accuracy.mean for row in task.methods]),
        ):
            dots = [xs(line)[0] for line in axes.lines if line.get_marker() == "o"]
            assert dots == pytest.approx([100 * value for value in values if value is not None])
        assert len(left.get_yticklabels()) == len(task.methods)


def test_probe_chart_counts_categories() -> None:
    probe = [ProbeRecord(str(i), "known" if i else "unknown", 1.0, 0.9, 0.1) for i in range(4)]
    left, _ = probe_chart(probe).axes
    assert [bar.get_width() for bar in left.containers[0]] == [0.75, 0.0, 0.25]


def test_svg_is_well_formed_named_and_reproducible() -> None:
    def draw(title: str) -> str:
        figure = reliability_diagram(CONFIDENCE, CORRECT, definition="vocab", title=title)
        return to_svg(figure, title=title, description="<b> & more")

    text = draw("A & <B>")
    assert text == draw("A & <B>")
    root = ElementTree.fromstring(text)
    assert [child.text for child in root[:2]] == ["A & <B>", "<b> & more"]
    assert root.get("role") == "img"
    assert root.get("width") is None
    ids = [{e.get("id") for e in ElementTree.fromstring(draw(t)).iter()} - {None} for t in "AB"]
    assert ids[0].isdisjoint(ids[1])


def test_dollars_in_a_name_are_no_formula() -> None:
    figure = reliability_diagram(CONFIDENCE, CORRECT, definition="vocab", title=r"$\oops$")
    assert r"$\oops$" in to_svg(figure, title="A", description="")


def test_drawing_leaves_matplotlib_settings_alone() -> None:
    before = dict(mpl.rcParams)
    reliability_diagram(CONFIDENCE, CORRECT, definition="vocab")
    assert dict(mpl.rcParams) == before
