"""Pictures for files carry the right data: what the artists hold, not what the pixels show."""

from __future__ import annotations

from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest

from cogcalib.drawing.canvas import to_svg
from cogcalib.drawing.reliability import confidence_histogram, reliability_diagram
from cogcalib.metrics import expected_calibration_error, reliability_curve

CONFIDENCE = np.random.default_rng(0).beta(4, 1, 400)
CORRECT = np.random.default_rng(1).random(400) < CONFIDENCE**2


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
