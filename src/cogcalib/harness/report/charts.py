"""Charts of methods, of training and of prior knowledge for pages. The numbers come in ready.

A method wears its own colour and marker (`cogcalib.harness.report.style`); the legend stands
beside the charts, in the page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cogcalib.drawing.svg_plot import Plot, Scale, number_scale, percent_scale
from cogcalib.harness.config.methods import canonical_order, label
from cogcalib.harness.report.columns import percent
from cogcalib.harness.report.style import Look
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

Looks = Mapping[str, Look]

LETTER, MOST_LETTERS = 6.9, 22
"""Units of a letter of a name beside a chart, in a wide font; the most that there is room for."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: what it is called, for files and for people, its SVG, and what stands below it."""

    name: str
    svg: str
    note: str = ""


def ece_panel(task: TaskSummary, definition: str, looks: Looks) -> Chart:
    """ECE of all methods under one definition, its noise floor pale behind it."""
    rows = {row.method: row.ece[definition] for row in task.methods}
    floors = {row.method: row.floor[definition] for row in task.methods}
    spoken = "; ".join(f"{label(name)} {percent(each.mean)} %" for name, each in rows.items())
    name = f"ECE {definition} on {task.task}"
    axis = f"ECE {definition} (%), lower is better"
    svg = _dots(rows, floors, looks, axis, from_zero=True).svg(name, spoken)
    return Chart(name, svg, f"ECE: {task.ece_label_of(definition)}")


def accuracy_panel(task: TaskSummary, looks: Looks) -> Chart:
    """Accuracy of all methods."""
    rows = {row.method: row.accuracy for row in task.methods}
    spoken = "; ".join(f"{label(name)} {percent(each.mean)} %" for name, each in rows.items())
    name = f"Accuracy on {task.task}"
    return Chart(name, _dots(rows, {}, looks, "accuracy (%), higher is better").svg(name, spoken))


def _dots(
    rows: Mapping[str, Statistic],
    floors: Mapping[str, tuple[float, float] | None],
    looks: Looks,
    axis: str,
    *,
    from_zero: bool = False,
) -> Plot:
    """A dot for each method, a bar for its interval or spread, a tick for each seed."""
    ends = {name: _spread(each) for name, each in rows.items()}
    values = [end for pair in ends.values() if pair for end in pair]
    values += [end for floor in floors.values() if floor for end in floor]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = 0.06 * (high - low) or 0.01
    x = percent_scale(axis, high + room, 0.0 if from_zero else max(0.0, low - room))
    longest = max(len(label(name)) for name in rows)
    plot = Plot(x, Scale(0, len(rows), ()), height=50 + 22 * len(rows),
                left=14 + LETTER * min(longest, MOST_LETTERS))  # fmt: skip
    for place, (name, statistic) in enumerate(rows.items()):
        y = len(rows) - place - 0.5
        look, (_, unit) = looks[name], plot.at(0, y)
        plot.text(plot.left - 8, unit + 4, _shortened(label(name)), "end")
        if floor := floors.get(name):
            plot.bar(floor, (y - 0.36, y + 0.36), "floor", title="noise floor")
        pair = ends[name]
        if pair is None or statistic.mean is None:
            continue
        title = f"{label(name)}: {percent(statistic.mean)} % [{percent(pair[0])} to "
        plot.line([(pair[0], y), (pair[1], y)], "stroke", look.colour)
        for value in statistic.values if len(statistic.values) > 1 else ():
            plot.line([(value, y - 0.25), (value, y + 0.25)], "stroke", look.colour)
        plot.marker(statistic.mean, y, look.marker, look.colour, f"{title}{percent(pair[1])}]", 4.5)
    return plot


def _shortened(text: str) -> str:
    """Both ends of a long name: of several runs a name ends in the method."""
    return text if len(text) <= MOST_LETTERS else f"{text[:8]}…{text[9 - MOST_LETTERS :]}"


def _spread(statistic: Statistic) -> tuple[float, float] | None:
    """Ends of the bar: standard deviation over seeds, or the interval, or the value itself."""
    mean, deviation = statistic.mean, statistic.deviation
    if mean is None:
        return None
    if deviation is not None:
        each = (mean - deviation, mean + deviation, *statistic.values)
        return min(each), max(each)
    low = mean if statistic.low is None else statistic.low
    high = mean if statistic.high is None else statistic.high
    return min(low, mean), max(high, mean)


Risks = Sequence[tuple[float, float, float | None]]
"""Points (share answered, error among them, least confidence answered if known); fractions."""


def risk_panel(curves: Mapping[str, Risks], looks: Looks, definition: str, task: str) -> Chart:
    """Error rate of the most confident share of the answers, a line for each method."""
    highest = max(error for curve in curves.values() for _, error, _ in curve)
    plot = Plot(
        percent_scale(f"answered, most confident first (%); {definition}"),
        percent_scale("wrong among them (%)", max(0.01, 1.08 * highest)),
        height=270,
    )
    for error in (0.1, 0.05):
        if error < highest:
            plot.line([(0.0, error), (1.0, error)], "gap")
            x, y = plot.at(1.0, error)
            plot.text(x - 3, y - 3, f"{1 - error:.0%} correct", "end", "tick")
    for name, curve in curves.items():
        look = looks[name]
        plot.line([(share, error) for share, error, _ in curve], "line", look.colour, look.dashes)
        for share, error, threshold in curve:
            title = f"{label(name)}: {percent(error)} % wrong of {percent(share)} % answered"
            if threshold is not None:
                title += f", those from confidence {percent(threshold)} %"
            plot.marker(share, error, look.marker, look.colour, title, 3.2)
    spoken = "; ".join(
        f"{label(name)}: "
        + ", ".join(f"{percent(error)} % wrong of {share:.0%}" for share, error, _ in curve[1::2])
        for name, curve in curves.items()
    )
    name = f"Risk and coverage, {definition}, on {task}"
    return Chart(name, plot.svg(name, spoken))


def threshold_panels(
    histories: Mapping[str, Sequence[Sequence[Threshold]]], looks: Looks
) -> list[Chart]:
    """Threshold and separation over the optimiser steps; a line for each seed.

    Infinite thresholds sit on the upper or lower edge as triangles.
    """
    stepped = {
        name: [[t for t in history if t.step is not None] for history in seeds]
        for name, seeds in histories.items()
    }
    rows = [t for seeds in stepped.values() for history in seeds for t in history]
    if not rows:
        return []
    finite = [t.value for t in rows if math.isfinite(t.value)] or [0.0, 1.0]
    low, high = min(0.0, *finite), max(*finite, 0.01)
    steps = number_scale("optimiser step", 0, max(t.step or 0 for t in rows))
    left = Plot(steps, number_scale("NLL at most which known (nats)", low, 1.1 * high), height=220)
    right = Plot(steps, percent_scale("TPR + TNR − 1 (%)"), height=220)  # noqa: RUF001
    for name in sorted(stepped, key=canonical_order):
        look = looks[name]
        for history in stepped[name]:
            left.line([(t.step or 0, t.value) for t in history], "line", look.colour, look.dashes)
            separations = [(t.step or 0, t.separation) for t in history]
            right.line(separations, "line", look.colour, look.dashes)
            for t in history:
                _threshold_point(left, name, t, look)
                title = f"{label(name)}, step {t.step}: {percent(t.separation)} %"
                right.marker(t.step or 0, t.separation, look.marker, look.colour, title, 3)
    spoken = "; ".join(
        f"{label(name)} ends at {seeds[0][-1].value:.3g} nats, separation "
        f"{percent(seeds[0][-1].separation)} %"
        for name, seeds in stepped.items()
        if seeds and seeds[0]
    )
    names = ("Threshold during training", "Separation during training")
    charts = zip(names, (left, right), strict=True)
    return [Chart(title, plot.svg(title, spoken)) for title, plot in charts]


def _threshold_point(plot: Plot, name: str, threshold: Threshold, look: Look) -> None:
    step, value = threshold.step or 0, threshold.value
    if math.isfinite(value):
        title = f"{label(name)}, step {step}: {value:.3g} nats"
        plot.marker(step, value, look.marker, look.colour, title, 3)
        return
    known = value > 0
    title = f"{label(name)}, step {step}: {'all known (+∞)' if known else 'none known (-∞)'}"
    edge = plot.y.high if known else plot.y.low
    plot.marker(step, edge, "up" if known else "down", look.colour, title, 5)


def training_panels(
    logs: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], looks: Looks
) -> list[Chart]:
    """Loss, cross-entropy, penalty and share of known examples over the optimiser steps.

    Args:
        logs: Method -> one log history per seed (``step`` and the keys of `CURVES`).
        looks: Of the methods.
    """
    rows = [row for seeds in logs.values() for log in seeds for row in log if "step" in row]
    keys = [key for key in CURVES if any(row.get(key) is not None for row in rows)]
    if "ce" in keys:
        keys = [key for key in keys if key != "loss"]
    charts = []
    for key in keys:
        found = {
            name: [
                [(row["step"], float(row[key])) for row in log if row.get(key) is not None
                 and "step" in row]
                for log in logs[name]
            ]
            for name in sorted(logs, key=canonical_order)
        }  # fmt: skip
        points = [point for seeds in found.values() for line in seeds for point in line]
        finite = [value for _, value in points if math.isfinite(value)] or [1.0]
        x = number_scale("optimiser step", 0, max(step for step, _ in points))
        low, high = min(0.0, *finite), 1.05 * max(*finite, 1e-6)
        share = key == "share_known"
        y = percent_scale(CURVES[key]) if share else number_scale(CURVES[key], low, high)
        plot = Plot(x, y, height=220)
        for name, seeds in found.items():
            for line in seeds:
                plot.line(line, "line", looks[name].colour, looks[name].dashes)
        title = f"{CURVES[key].split(' (')[0].capitalize()} during training"
        drawn = [label(name) for name, seeds in found.items() if any(seeds)]
        charts.append(Chart(title, plot.svg(title, f"Training of {', '.join(drawn)}")))
    return charts


def probe_panels(probe: Sequence[ProbeRecord]) -> list[Chart]:
    """What the base model knew: share per category, and NLL of the examples by category."""
    n = len(probe)
    counts = {name: sum(r.category == name for r in probe) for name in CATEGORIES}
    shares = Plot(percent_scale("share of training examples (%)"), Scale(0, 3, ()), height=130,
                  left=70)  # fmt: skip
    for place, (name, colour) in enumerate(CATEGORIES.items()):
        y, share = 2.5 - place, counts[name] / n
        shares.bar((0, share), (y - 0.32, y + 0.32), "fill", colour)
        x, unit = shares.at(share, y)
        shares.text(shares.left - 6, unit + 4, name, "end")
        shares.text(min(x + 5, 318), unit + 4, f"{100 * share:.0f} %")
    spoken = "; ".join(f"{name}: {counts[name]} examples" for name in CATEGORIES)
    title = "What the base model knew"
    charts = [Chart(title, shares.svg(title, spoken))]
    nlls = {
        name: np.array([r.nll for r in probe if r.category == name and math.isfinite(r.nll)])
        for name in CATEGORIES
    }
    every = np.concatenate(list(nlls.values()))
    if every.size:
        edges = np.linspace(0, max(float(every.max()), 1e-6), 31)
        heights = {name: np.histogram(values, edges)[0] for name, values in nlls.items()}
        top = float(max(1, sum(heights.values()).max()))  # type: ignore[union-attr]
        plot = Plot(
            number_scale("NLL of the gold answer under the base model (nats)", 0, edges[-1]),
            number_scale("training examples", 0, 1.05 * top),
            height=220,
        )
        bottom = np.zeros(30)
        for name, counted in heights.items():
            for k in np.flatnonzero(counted):
                bar = (bottom[k], bottom[k] + counted[k])
                plot.bar((edges[k], edges[k + 1]), bar, "fill", CATEGORIES[name],
                         f"{name}: {counted[k]}")  # fmt: skip
            bottom += counted
        title = "NLL by what the base model knew"
        charts.append(Chart(title, plot.svg(title, spoken)))
    return charts
