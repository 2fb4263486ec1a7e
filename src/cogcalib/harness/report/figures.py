"""Figures of methods, of training and of prior knowledge. Drawing only: the numbers come in ready.

`cogcalib.drawing.reliability` holds the figures of confidence against correctness.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from cogcalib.drawing.canvas import GRID, INK, new_figure, percent_axis, styled
from cogcalib.harness.config.methods import canonical_order, label
from cogcalib.harness.report import style
from cogcalib.harness.report.summary import Statistic, TaskSummary
from cogcalib.records import KNOWLEDGE, ProbeRecord, Threshold

CATEGORIES = dict(zip(KNOWLEDGE, ("#0072b2", "#e69f00", "#6b7280"), strict=True))
"""SliCK-like categories of a probe, best known first, and their colours."""

CURVES = {
    "loss": "loss (nats)",
    "ce": "cross-entropy (nats)",
    "penalty": "penalty",
    "share_known": "share known (%)",
}
"""Keys of the training log that can be drawn, and the labels of their axes."""


@styled
def ece_chart(task: TaskSummary) -> Figure:
    """ECE and accuracy of all methods side by side: a dot per seed, bars the interval or spread.

    The pale band behind an ECE is its noise floor.

    Returns:
        A figure with two axes, ECE and accuracy in percent, one row per method from the top.
    """
    figure = new_figure(8.6, 0.9 + 0.3 * len(task.methods))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    for row, summary in enumerate(task.methods):
        colour = style.colour(summary.method)
        if floor := summary.floor[task.primary]:
            left.barh(row, 100 * (floor[1] - floor[0]), left=100 * floor[0], height=0.7,
                      color=GRID, zorder=0)  # fmt: skip
        _dot(left, row, summary.ece[task.primary], colour)
        _dot(right, row, summary.accuracy, colour)
    left.set_yticks(range(len(task.methods)), [label(summary.method) for summary in task.methods])
    left.set_ylim(len(task.methods) - 0.5, -0.5)
    left.set_xlim(left=0)
    left.set_xlabel(f"ECE (%); lower is better\n{task.ece_label}")
    right.set_xlabel("accuracy (%); higher is better")
    for axes in (left, right):
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    return figure


@styled
def risk_coverage_chart(task: TaskSummary) -> Figure:
    """Error rate of the most confident share of the answers, a line for each method.

    Raises:
        ValueError: If no method has a risk-coverage curve.
    """
    rows = [row for row in task.methods if row.risks]
    if not rows:
        raise ValueError("task must hold at least one risk-coverage curve, got none")
    figure = new_figure(8.6, 3.6)
    axes = figure.subplots()
    for row in rows:
        coverage, error = zip(*row.risks, strict=True)
        axes.plot(
            coverage, error, color=style.colour(row.method), linestyle=style.dashes(row.method),
            linewidth=1.6, label=label(row.method),
        )  # fmt: skip
    percent_axis(axes, x=True, y=False)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol="", decimals=0))
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"answered, most confident first (%); confidence: {task.scored}")
    axes.set_ylabel("wrong among them (%)")
    figure.legend(loc="outside right upper")
    return figure


def _dot(axes: Axes, row: int, statistic: Statistic, colour: str) -> None:
    mean, deviation = statistic.mean, statistic.deviation
    if mean is None:
        return
    low, high = statistic.low, statistic.high
    if deviation is not None:
        low, high = mean - deviation, mean + deviation
        axes.plot(
            [100 * value for value in statistic.values], [row] * len(statistic.values),
            linestyle="none", marker="|", markersize=11, color=colour,
        )  # fmt: skip
    if low is not None and high is not None:
        axes.hlines(row, 100 * low, 100 * high, color=colour, linewidth=2.2)
    axes.plot(100 * mean, row, marker="o", markersize=7, color=colour, markeredgecolor="white")


@styled
def threshold_history(histories: Mapping[str, Sequence[Sequence[Threshold]]]) -> Figure:
    """Threshold (nats) and separation of known from unknown (%), over the optimiser steps.

    Args:
        histories: Method -> one history per seed. Thresholds without a step are left out;
            infinite ones sit on the upper or lower edge as triangles.

    Raises:
        ValueError: If no threshold has a step.
    """
    if not any(t.step is not None for seeds in histories.values() for h in seeds for t in h):
        raise ValueError("histories must hold at least one threshold with a step, got none")
    figure = new_figure(8.6, 2.9)
    left, right = figure.subplots(1, 2, sharex=True)
    for method in sorted(histories, key=canonical_order):
        for history in histories[method]:
            kept = [each for each in history if each.step is not None]
            steps = [each.step for each in kept]
            _plot(left, method, steps, [t.value for t in kept])
            _plot(right, method, steps, [100 * t.separation for t in kept])
    _mark_infinite(left, histories)
    left.set_title("Threshold")
    left.set_ylabel("NLL below which known (nats)")
    right.set_title("Separation of known from unknown")
    right.set_ylabel("TPR + TNR − 1 (%)")  # noqa: RUF001
    right.set_ylim(0, 100)
    for axes in (left, right):
        axes.set_xlabel("optimiser step")
    _legend(figure, histories)
    return figure


def _mark_infinite(axes: Axes, histories: Mapping[str, Sequence[Sequence[Threshold]]]) -> None:
    """Triangles at the edge, in axes coordinates, so that they do not stretch the scale."""
    place = axes.get_xaxis_transform()
    for value, edge, marker, meaning in (
        (math.inf, 0.97, "^", "all known (+∞)"),
        (-math.inf, 0.03, "v", "none known (−∞)"),  # noqa: RUF001
    ):
        last: int | None = None
        for method, seeds in histories.items():
            steps = [
                t.step for each in seeds for t in each if t.step is not None and t.value == value
            ]
            if steps:
                axes.plot(
                    steps, [edge] * len(steps), linestyle="none", marker=marker, markersize=7,
                    color=style.colour(method), transform=place,
                )  # fmt: skip
                last = max(steps) if last is None else max(last, *steps)
        if last is not None:
            axes.annotate(
                meaning, (last, edge), xycoords=place, xytext=(7, 0),
                textcoords="offset points", va="center", fontsize=8,
            )  # fmt: skip


@styled
def training_curves(logs: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]) -> Figure:
    """Loss, cross-entropy, penalty and share of known examples over the optimiser steps.

    Args:
        logs: Method -> one log history per seed (``step`` and the keys of `CURVES`).

    Returns:
        A figure with one axes per key that occurs.

    Raises:
        ValueError: If no key of `CURVES` occurs.
    """
    rows = [row for seeds in logs.values() for log in seeds for row in log]
    keys = [key for key in CURVES if any(key in row for row in rows)]
    if "ce" in keys:
        keys = [key for key in keys if key != "loss"]
    if not keys:
        raise ValueError(f"logs must hold at least one of {list(CURVES)}, got none")
    figure = new_figure(8.6, 2.7)
    panels = figure.subplots(1, len(keys), squeeze=False)[0]
    for axes, key in zip(panels, keys, strict=True):
        scale = 100.0 if key == "share_known" else 1.0
        for method in sorted(logs, key=canonical_order):
            for log in logs[method]:
                kept = [row for row in log if row.get(key) is not None and "step" in row]
                steps = [row["step"] for row in kept]
                _plot(axes, method, steps, [scale * float(row[key]) for row in kept])
        axes.set_title(CURVES[key])
        axes.set_xlabel("optimiser step")
        axes.set_ylim(bottom=0, top=100 if key == "share_known" else None)
    _legend(figure, logs)
    return figure


def _plot(axes: Axes, method: str, steps: Sequence[int | None], values: Sequence[float]) -> None:
    finite = [value if math.isfinite(value) else math.nan for value in values]
    axes.plot(
        np.asarray(steps, float), finite, color=style.colour(method),
        linestyle=style.dashes(method), linewidth=1.4, alpha=0.9,
    )  # fmt: skip


def _legend(figure: Figure, names: Mapping[str, Any]) -> None:
    handles = [
        Line2D([], [], color=style.colour(name), linestyle=style.dashes(name), linewidth=2,
               label=label(name))
        for name in sorted(names, key=canonical_order)
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 7))


@styled
def probe_chart(probe: Sequence[ProbeRecord]) -> Figure:
    """What the base model knew: share per category, and NLL of the examples by category.

    Raises:
        ValueError: If there is no record.
    """
    if not probe:
        raise ValueError("probe must hold at least one record, got none")
    nlls = {
        name: [r.nll for r in probe if r.category == name and math.isfinite(r.nll)]
        for name in CATEGORIES
    }
    figure = new_figure(8.6, 2.5)
    left, right = figure.subplots(1, 2, width_ratios=[2, 3])
    shares = [sum(r.category == name for r in probe) / len(probe) for name in CATEGORIES]
    bars = left.barh(list(CATEGORIES), shares, color=list(CATEGORIES.values()), height=0.62)
    left.bar_label(bars, [f"{100 * share:.0f} %" for share in shares], padding=4)
    left.invert_yaxis()
    percent_axis(left, x=True)
    left.grid(axis="y", visible=False)
    left.set_xlabel("share of training examples (%)")
    right.hist(
        list(nlls.values()), bins=30, stacked=True, color=list(CATEGORIES.values()),
        label=list(CATEGORIES), edgecolor="white", linewidth=0.4,
    )  # fmt: skip
    right.set_xlabel("NLL of the gold answer under the base model (nats)")
    right.set_ylabel("training examples")
    right.legend(loc="upper right")
    right.grid(axis="x", color=GRID)
    right.tick_params(colors=INK)
    return figure
