"""The figure of a table, drawn from its record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from cogcalib.drawing.canvas import FAINT, new_figure, styled, to_svg
from cogcalib.harness.config.methods import label
from cogcalib.harness.report.style import Look, looks
from cogcalib.harness.reproduce.analyses import Analysis, by_place
from cogcalib.scoring.metrics_row import COVERAGES

Record = Mapping[str, Any]
ROW = 0.17
"""Inches a method takes."""
ABREAST = 4
"""Most panels beside each other."""
LETTER = 0.1
"""Inches that a letter of a panel's title takes at most."""
MARKERS = {
    "circle": "o", "square": "s", "up": "^", "diamond": "D", "down": "v", "cross": "x",
    "plus": "+", "pentagon": "p",
}  # fmt: skip
"""Shapes of `cogcalib.drawing.svg_plot`, as matplotlib calls them."""
RISKS = 2.6
"""Inches the risk-coverage curves take."""
CURVES = ("base", "sft", "sft+ts", "ensemble", "uniform", "gated", "cols-options-gap")
"""Rows whose risk-coverage curve is drawn; the record has all."""
GAP = (math.nan, math.nan)
"""A break in a line."""
KNOWLEDGE = ("known", "unknown")


def figure_of(record: Record) -> str | None:
    """The figure as SVG, text as text; None if the record holds nothing to draw."""
    kind = record["table"]["renderer"]
    analysis = record["analysis"]
    if kind == "detector" and analysis:
        figure = draw_detector(analysis)
        shown = "AUROC of each detector of knowledge, by method."
    elif kind == "dynamics" and analysis:
        figure = draw_dynamics(analysis)
        shown = "Accuracy and confidence over the optimiser steps, by split and prior knowledge."
    elif kind not in ("detector", "dynamics") and record["results"]:
        figure = draw_errors(record)
        shown = "Expected calibration error of every method, mean and standard deviation."
        if any(row.get("risk") for group in record["results"] for row in group["rows"]):
            shown += " Below, the error rate of the most confident share of the answers."
    else:
        return None
    title = f"{record['table']['title']}: {record['preset']['name']}"
    return to_svg(figure, title=title, description=shown)


@styled
def draw_errors(record: Record) -> Figure:
    """ECE of the primary confidence: panels for each task trained on, a line per method.

    A panel is a task tested on; if the table has several variants or models, it is one of these in
    domain, and the page has the other tasks. At most `ABREAST` stand beside each other.
    """
    groups = record["results"]
    differs = next(
        (key for key in ("model", "variant") if len({group[key] for group in groups}) > 1), "task"
    )
    several = differs != "task"
    if several:
        groups = [group for group in groups if group["in_domain"]]
    trained = [
        [group for group in groups if group["trained_on"] == task]
        for task in dict.fromkeys(group["trained_on"] for group in groups)
    ]
    rows = [here[k : k + ABREAST] for here in trained for k in range(0, len(here), ABREAST)]
    names = [_names(here, several) for here in trained for _ in range(0, len(here), ABREAST)]
    wear = _looks(record["results"], several)
    heights = [0.75 + 0.25 * several + ROW * len(each) for each in names]
    widest = max(len(here) for here in rows)
    curves = [group for group in record["results"] if group["in_domain"] and _surest(group)]
    heights += [RISKS] * bool(curves)
    longest = max(len(group[differs]) for here in rows for group in here)
    wide = max(1.55, LETTER * longest + 0.2)
    figure = new_figure(2.0 + max(wide * widest, 3.1), sum(heights))
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    if curves:
        _draw_risks(parts[-1], curves[: max(2, widest // 2)], differs, wear)
    for part, here, lines in zip(parts, rows, names, strict=False):
        panels = part.subplots(1, widest, sharex=several, sharey=True, squeeze=False)[0]
        for axes, group in zip(panels, here, strict=False):
            _panel(axes, group, list(lines), wear)
            axes.set_title(group[differs])
        for axes in panels:  # at last: panels that share an axis stop growing with it
            axes.set_xlim(left=0)
        if several:
            part.suptitle(here[0]["task"], fontsize="medium")
        for axes in panels[len(here) :]:
            axes.set_visible(False)
        panels[0].set_yticks(range(len(lines)), list(lines.values()))
        panels[0].set_ylim(len(lines) - 0.5, -0.5)
    return figure


def _looks(groups: Sequence[Record], several: bool) -> dict[str, Look]:
    """Row -> its look, each of its own; a row that was chosen wears that of the method it is.

    Of several variants or models it may be another method in each, and has its own there.
    """
    first: dict[str, str] = {}
    for row in (row for group in groups for row in group["rows"]):
        first.setdefault(row["row"] if several else row["method"], row["row"])
    wear = looks(first.values())
    every = [row for group in groups for row in group["rows"]]
    return {row["row"]: wear[first[row["row"] if several else row["method"]]] for row in every}


def _surest(group: Record) -> list[Record]:
    """The rows whose risk-coverage curves are drawn: few, so that they can be told apart."""
    return [row for row in group["rows"] if row["row"] in CURVES and row.get("risk")]


def _draw_risks(
    part: SubFigure, groups: Sequence[Record], differs: str, wear: Mapping[str, Look]
) -> None:
    """Error rate of the most confident share: a panel for each group in domain."""
    panels = part.subplots(1, len(groups), sharex=True, sharey=True, squeeze=False)[0]
    for axes, group in zip(panels, groups, strict=True):
        for row in _surest(group):
            errors = [100 * error for error in row["risk"]]
            shares = [100 * share for share in COVERAGES]
            dashes = {"uniform": ":", "gated": "--"}.get(row["row"], "-")
            look = wear[row["row"]]
            axes.plot(shares, errors, dashes, color=look.colour, label=row["row"],
                      marker=MARKERS[look.marker], markersize=4, markevery=3)  # fmt: skip
        axes.set_title(group[differs])
        axes.set_xlabel("answered, surest first (%)")
        axes.tick_params(length=0)
    panels[0].set_ylim(bottom=0)  # at last: panels that share an axis stop growing with it
    panels[0].set_ylabel("wrong among them (%)")
    part.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper")


def _names(groups: Sequence[Record], several: bool) -> dict[str, str]:
    """Row -> its label; a row that was chosen and stands there under another name is left out."""
    found: dict[str, str] = {}
    for group in groups:
        shown: set[str] = set()
        for row in group["rows"]:
            if row["method"] not in shown:
                shown.add(row["method"])
                # Alphas differ between models and variants.
                found.setdefault(row["row"], label(row["row" if several else "method"]))
    return found


def _panel(axes: Axes, group: Record, lines: Sequence[str], wear: Mapping[str, Look]) -> None:
    """A tick at each mean, a thin bar of a standard deviation to either side, where it is known."""
    metric = next(name for name in group["rows"][0]["mean"] if name.startswith("ece."))
    spread: list[tuple[float, float]] = []
    ticks: dict[str, list[tuple[float, float]]] = {}
    for row in group["rows"]:
        if row["row"] in lines and metric in row["mean"]:
            mean, y = 100 * row["mean"][metric], lines.index(row["row"])
            deviation = 100 * row.get("deviation", {}).get(metric, 0.0)
            if deviation:
                spread += [(mean - deviation, y), (mean + deviation, y), GAP]
            shade = wear[row["row"]].colour
            ticks.setdefault(shade, []).extend([(mean, y - 0.36), (mean, y + 0.36), GAP])
    # A broken line each, and none cut at the frame: that keeps the file small.
    if spread:
        axes.plot(*zip(*spread, strict=True), color=FAINT, linewidth=1.2)
    for shade, points in ticks.items():
        axes.plot(*zip(*points, strict=True), color=shade, linewidth=2.4, solid_capstyle="butt",
                  clip_on=False)  # fmt: skip
    axes.set_xlabel(f"ECE {metric.partition('.')[2]} (%)")
    axes.locator_params(axis="x", nbins=4)
    axes.grid(axis="y", visible=False)
    axes.tick_params(length=0)


@styled
def draw_detector(analysis: Analysis) -> Figure:
    """AUROC of each detector: a panel per place, a line per method."""
    places = dict(by_place(analysis))
    heights = [0.9 + 2 * ROW * len(rows) for rows in places.values()]
    figure = new_figure(7.0, sum(heights))
    panels = figure.subplots(len(places), 1, sharex=True, squeeze=False, height_ratios=heights)
    for axes, ((model, task), rows) in zip(panels[:, 0], places.items(), strict=True):
        names = [name for name in rows[0]["mean"] if name.startswith("auroc.")]
        for number, name in enumerate(names):
            values = [100 * row["mean"][name] for row in rows]
            # What is the table's subject, the first, lies on top of the others.
            order = 3 + len(names) - number
            axes.plot(
                values, range(len(rows)), "os^D"[number % 4], color=f"C{number}",
                label=name.partition(".")[2], zorder=order,
            )  # fmt: skip
        axes.set_yticks(range(len(rows)), [label(row["method"]) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_title(f"{model}: {task}")
        axes.tick_params(length=0)
    panels[-1, 0].set_xlabel("AUROC on the test split (%)")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right upper")
    return figure


@styled
def draw_dynamics(analysis: Analysis) -> Figure:
    """Accuracy (solid) and confidence (dashed) over the steps: a panel per split and group."""
    places = list(by_place(analysis))
    figure = new_figure(9.0, 5.6 * len(places))
    parts = figure.subfigures(len(places), 1, squeeze=False)[:, 0]
    for part, ((model, task), rows) in zip(parts, places, strict=True):
        panels = part.subplots(2, 2, sharex=True, sharey=True)
        where = [(split, group) for split in ("train", "calibration") for group in KNOWLEDGE]
        for axes, place in zip(panels.flat, where, strict=True):
            here = [row for row in rows if (row["split"], row["group"]) == place]
            for number, row in enumerate(here):
                # Two variants of a method wear one colour elsewhere; here they must differ.
                shade = f"C{number}"
                accuracy = [100 * value for value in row["accuracy"]]
                confidence = [100 * value for value in row["confidence"]]
                axes.plot(row["step"], accuracy, color=shade, label=label(row["method"]))
                axes.plot(row["step"], confidence, "--", color=shade)
            axes.set_title(f"{place[0]}, {place[1]} to the base model")
            axes.tick_params(length=0)
        if len(places) > 1:
            part.suptitle(f"{model}: {task}")
        part.supxlabel("optimiser step", fontsize="medium")
        part.supylabel("accuracy (solid), confidence (dashed), %", fontsize="medium")
        panels[0][0].legend(loc="lower right")
    return figure
