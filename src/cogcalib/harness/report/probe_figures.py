"""Figures of a probe. Drawing only: the numbers come in ready."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from cogcalib.drawing.canvas import GRID, INK, new_figure, percent_axis, styled
from cogcalib.knowledge import CATEGORIES
from cogcalib.suggest import cut

COLOURS = dict(zip(CATEGORIES, ("#0072b2", "#56b4e9", "#e69f00", "#6b7280"), strict=True))
"""Best known darkest; safe for colour-blind readers."""

WIDTH = 3.9
"""Inches: a phone is as wide, so that the text keeps its size there."""

MOST_LETTERS = 26
"""Of a group's name beside its bar; the page's table has it whole."""

DETECTOR_LINES = {
    "nll": ("NLL", "#0072b2"),
    "margin": ("margin", "#d55e00"),
    "entropy": ("entropy", "#009e73"),
    "p_gold": ("P(gold)", "#cc79a7"),
}
"""Detector -> its name on the page and its line, whichever others there are."""

ON_BAR = dict(zip(CATEGORIES, ("#fefefe", "#111111", "#111111", "#fefefe"), strict=True))
"""Colour of a number on a category's bar, whether the page is light or dark."""


@styled
def shares_chart(shares: Mapping[str, Sequence[float]]) -> Figure:
    """Share of each category, a bar for each group.

    Args:
        shares: Group -> one fraction a category, in the order of `CATEGORIES`.
    """
    figure = new_figure(WIDTH, 1.2 + 0.3 * len(shares))
    axes = figure.subplots()
    left = np.zeros(len(shares))
    for place, (category, colour) in enumerate(COLOURS.items()):
        widths = np.array([row[place] for row in shares.values()])
        bars = axes.barh(
            range(len(shares)), widths, left=left, color=colour, label=category, height=0.7,
            edgecolor="white",
        )  # fmt: skip
        texts = [f"{100 * width:.0f}" if width >= 0.04 else "" for width in widths]
        axes.bar_label(bars, texts, label_type="center", color=ON_BAR[category], fontsize=8)
        left += widths
    axes.set_yticks(range(len(shares)), [cut(name, MOST_LETTERS) for name in shares])
    axes.invert_yaxis()
    percent_axis(axes, x=True)
    axes.set_xlabel("share of the questions (%)")
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


@styled
def nll_histogram(nlls: Mapping[str, Sequence[float]], threshold: float) -> Figure:
    """NLL of the gold answers, stacked by category, with the threshold that tells known ones.

    Args:
        nlls: Category -> nats.
        threshold: Nats; an infinite one is not drawn.
    """
    figure = new_figure(WIDTH, 2.9)
    axes = figure.subplots()
    finite = [[x for x in nlls.get(name, ()) if math.isfinite(x)] for name in CATEGORIES]
    axes.hist(
        finite, bins=40, stacked=True, color=list(COLOURS.values()), label=list(CATEGORIES),
        edgecolor="white", linewidth=0.3,
    )  # fmt: skip
    if math.isfinite(threshold):
        axes.axvline(threshold, color=INK, linestyle="--", label=f"cut {threshold:.2f}")
    axes.set_xlabel("NLL of the gold answer (nats),\nasked zero-shot as in training")
    axes.set_ylabel("questions")
    axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
    figure.legend(loc="outside upper center", ncols=3, columnspacing=1.0)
    axes.grid(axis="x", color=GRID)
    return figure


@styled
def roc_chart(
    scores: Mapping[str, ArrayLike], known: ArrayLike, aurocs: Mapping[str, float]
) -> Figure:
    """ROC curve of every detector, the label given.

    Args:
        scores: Detector -> scores, higher where known, [n].
        known: The label, [n].
        aurocs: Detector -> area, a fraction.
    """
    figure = new_figure(WIDTH, 3.7)
    axes = figure.subplots()
    for name, values in scores.items():
        shown, colour = DETECTOR_LINES[name]
        false, true = roc_points(np.asarray(values), np.asarray(known, dtype=bool))
        label = f"{shown}, {100 * aurocs[name]:.1f} %"
        axes.plot(false, true, color=colour, label=label, linewidth=1.6)
    axes.plot([0, 1], [0, 1], color=GRID, linestyle="--")
    percent_axis(axes, x=True, y=True)
    axes.set_xlabel("others taken for known (%)")
    axes.set_ylabel("known found (%)")
    axes.legend(loc="lower right", title="AUROC")
    return figure


def roc_points(
    scores: NDArray[np.float64], known: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rates at every distinct cut, from (0, 0) to (1, 1)."""
    order = np.argsort(-scores, kind="stable")
    ranked, labels = scores[order], known[order]
    # Only where the score changes: ties are taken together.
    cuts = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    true, false = np.cumsum(labels)[cuts], np.cumsum(~labels)[cuts]
    return np.append(0, false) / max(1, false[-1]), np.append(0, true) / max(1, true[-1])


@styled
def population_chart(edges: Sequence[float], shares: Sequence[Sequence[float]]) -> Figure:
    """Share of each category against the population of the place asked about.

    Args:
        edges: Bounds of the bins of population, people; one more than bins.
        shares: For each bin one fraction a category, in the order of `CATEGORIES`.
    """
    figure = new_figure(WIDTH, 3.1)
    axes = figure.subplots()
    places = np.arange(len(shares))
    bottom = np.zeros(len(shares))
    for place, (category, colour) in enumerate(COLOURS.items()):
        heights = np.array([row[place] for row in shares])
        axes.bar(
            places, heights, 1.0, bottom=bottom, color=colour, label=category, edgecolor="white"
        )
        bottom += heights
    _population_ticks(axes, edges)
    percent_axis(axes, y=True)
    axes.set_ylabel("share of the questions (%)")
    axes.set_xlabel("population of the place asked about;\neach bar the same number of questions")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def _population_ticks(axes: Axes, edges: Sequence[float]) -> None:
    axes.set_xticks(np.arange(len(edges)) - 0.5)
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda _, place: _people(edges[place or 0]))  # one tick an edge
    )
    axes.set_xlim(-0.5, len(edges) - 1.5)
    axes.grid(axis="x", visible=False)


def _people(number: float) -> str:
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number / 1e3:.0f} k"
