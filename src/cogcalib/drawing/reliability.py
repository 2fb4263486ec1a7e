"""Figures of confidence against correctness. Fractions in; percent on the axes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from cogcalib.drawing.canvas import INK, new_figure, percent_axis, styled
from cogcalib.drawing.svg_plot import FEW
from cogcalib.metrics import (
    ReliabilityCurve,
    ece_label,
    reliability_curve,
)

DEFAULT_COLOUR = "#0072b2"
WRONG = "#52606d"


@styled
def reliability_diagram(
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    definition: str,
    bins: int = 15,
    binning: str = "width",
    title: str = "",
    colour: str = DEFAULT_COLOUR,
) -> Figure:
    """Accuracy per bin of confidence, its gap to the confidence hatched, counts below.

    Args:
        confidence: Confidence of each answer, fraction, [n].
        correct: Whether each answer is correct, [n].
        definition: Which confidence it is, printed beside the ECE.
        bins, binning: As in `cogcalib.metrics.reliability_curve`.
        title: Printed above.
        colour: Colour of the bars.

    Returns:
        A figure with two axes on one x axis: accuracy, and counts.

    Raises:
        ValueError: For malformed arrays (see `cogcalib.metrics.reliability_curve`).
    """
    curve = reliability_curve(confidence, correct, bins=bins, binning=binning)
    label = ece_label(definition, int(curve.count.sum()), bins=bins, binning=binning)
    figure = new_figure(3.2, 3.9)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    _draw_panel((upper, lower), curve, label, title, colour)
    return figure


@styled
def reliability_panels(curves: Mapping[str, ReliabilityCurve], *, definition: str) -> Figure:
    """Reliability diagrams side by side, as `reliability_diagram` draws one.

    Args:
        curves: Title -> curve over bins of equal width, at least one.
        definition: Which confidence it is, printed beside each ECE.
    """
    figure = new_figure(3.2 * len(curves), 3.9)
    axes = figure.subplots(2, len(curves), sharex=True, squeeze=False, height_ratios=[4, 1])
    for pair, (title, curve) in zip(axes.T, curves.items(), strict=True):
        n, bins = int(curve.count.sum()), len(curve.count)
        label = ece_label(definition, n, bins=bins)
        _draw_panel(tuple(pair), curve, label, title, DEFAULT_COLOUR)
    return figure


def _draw_panel(
    axes: tuple[Axes, Axes], curve: ReliabilityCurve, label: str, title: str, colour: str
) -> None:
    upper, lower = axes
    _draw_accuracy(upper, curve, colour)
    # Above the axes: inside, there is a bar wherever a model is correct at low confidence.
    upper.set_title(title, pad=30)
    binned, made = label.split(", ", 1)
    text = f"ECE {100 * curve.ece:.1f} %, {binned}\n{made}"
    upper.text(0, 1.03, text, transform=upper.transAxes, fontsize=8, linespacing=1.4)
    _draw_counts(lower, curve, colour)


def _draw_accuracy(axes: Axes, curve: ReliabilityCurve, colour: str) -> None:
    filled = np.flatnonzero(curve.count)
    left, width = curve.edges[filled], np.diff(curve.edges)[filled]
    accuracy, confidence = curve.accuracy[filled], curve.confidence[filled]
    for bar, count in zip(
        axes.bar(left, accuracy, width, align="edge", color=colour, edgecolor="white"),
        curve.count[filled],
        strict=True,
    ):
        bar.set_alpha(0.35 if count < FEW else 0.9)
    axes.bar(
        left,
        np.abs(confidence - accuracy),
        width,
        bottom=np.minimum(accuracy, confidence),
        align="edge",
        facecolor="none",
        edgecolor=INK,
        hatch="//////",
        linewidth=0.6,
        label="gap to confidence",
    )
    axes.plot([0, 1], [0, 1], color=INK, linestyle="--", linewidth=1.0)
    percent_axis(axes, x=True, y=True)
    axes.set_ylabel("accuracy (%)")


def _draw_counts(axes: Axes, curve: ReliabilityCurve, colour: str) -> None:
    width = np.diff(curve.edges)
    axes.bar(curve.edges[:-1], curve.count, width, align="edge", color=colour, edgecolor="white")
    axes.set_ylabel("answers")
    axes.set_xlabel("confidence (%)")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))


@styled
def confidence_histogram(
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    bins: int = 15,
    title: str = "",
    colour: str = DEFAULT_COLOUR,
) -> Figure:
    """How confident correct answers (upwards) and wrong answers (downwards) are.

    Each side adds up to 100 %, so that a few wrong answers show as plainly as many correct ones.

    Args:
        confidence: Confidence of each answer, fraction, [n].
        correct: Whether each answer is correct, [n].
        bins: Number of equal-width bins.
        title: Printed above.
        colour: Colour of the correct answers; wrong ones are grey.

    Returns:
        A figure with one axes: containers[0] the correct answers, containers[1] the wrong ones.

    Raises:
        ValueError: For malformed arrays.
    """
    curve = reliability_curve(confidence, correct, bins=bins)
    correct_answers = np.rint(np.nan_to_num(curve.accuracy) * curve.count)
    figure = new_figure(3.2, 2.5)
    axes = figure.subplots()
    lines = []
    for name, sign, counts, fill in (
        ("correct", 1, correct_answers, colour),
        ("wrong", -1, curve.count - correct_answers, WRONG),
    ):
        share = sign * counts / max(counts.sum(), 1)
        edges = curve.edges
        axes.bar(edges[:-1], share, np.diff(edges), align="edge", color=fill, edgecolor="white")
        if counts.sum():
            mean = np.asarray(confidence)[np.asarray(correct, bool) == (sign > 0)].mean()
            lines.append(f"{counts.sum():,.0f} {name}, mean {100 * mean:.0f} %")
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_title(title)
    axes.text(0.04, 0.96, "\n".join(lines), transform=axes.transAxes, va="top", linespacing=1.4)
    percent_axis(axes, x=True)
    axes.set_ylim(-1, 1)
    axes.set_yticks([-1, -0.5, 0, 0.5, 1], ["100", "50", "0", "50", "100"])
    axes.set_xlabel("confidence (%)")
    axes.set_ylabel("wrong | correct (%)")
    return figure
