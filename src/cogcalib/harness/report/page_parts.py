"""The parts that pages are laid out of: tables, figures, and the page that the template prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from markupsafe import Markup

from cogcalib.drawing.canvas import to_svg
from cogcalib.drawing.reliability import confidence_histogram, reliability_diagram
from cogcalib.harness.config.methods import label
from cogcalib.harness.report import style
from cogcalib.harness.report.columns import (
    Column,
    calibration_caption,
    calibration_columns,
    percent,
    title,
    use_caption,
    use_columns,
)
from cogcalib.harness.report.figures import ece_chart, risk_coverage_chart
from cogcalib.harness.report.mistakes import Mistake
from cogcalib.harness.report.summary import TaskSummary
from cogcalib.records import Prediction


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: headers, rows of text, and per cell whether it is emphasised.

    Attributes:
        headers: One text per column.
        rows: Rows of (text, emphasised) pairs.
        title, note: Printed above and below; may be empty.
        text_columns: Number of leading columns aligned left; the others hold numbers.
    """

    headers: list[str]
    rows: list[list[tuple[str, bool]]]
    title: str = ""
    note: str = ""
    text_columns: int = 1


@dataclass(frozen=True, slots=True)
class Page:
    """Everything the template prints. Texts are plain and escaped there; `Markup` is our SVG.

    What is empty or None has no section.
    """

    name: str
    findings: list[str]
    facts: list[tuple[str, str]]
    tables: list[Grid]
    ece_charts: list[tuple[str, Markup]]
    uses: list[tuple[Markup | None, Grid]]
    figure_note: str
    reliability: list[Markup]
    histograms: list[Markup]
    bins: int
    methods: list[tuple[str, str]]
    differences: list[Grid] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    mistake_methods: tuple[str, str] = ("", "")
    threshold: Markup | None = None
    curves: Markup | None = None
    probe: Markup | None = None
    probe_table: Grid | None = None
    probed_before: bool = False
    data: Grid | None = None
    tasks: Grid | None = None
    config: str = ""
    record: list[tuple[str, Grid]] = field(default_factory=list)


def metrics_grid(task: TaskSummary) -> Grid:
    """The table of a task's calibration, every confidence definition in it."""
    shown = calibration_columns(task, wide=True)
    return _grid(task, shown, calibration_caption(task))


def uses(tasks: Sequence[TaskSummary]) -> list[tuple[Markup | None, Grid]]:
    """Risk-coverage curves, if known, and table of each task: how a method ranks its answers."""
    found = []
    for task in tasks:
        if shown := use_columns(task):
            found.append((_risk_svg(task), _grid(task, shown, use_caption(task))))
    return found


def _grid(task: TaskSummary, shown: Sequence[Column], note: str) -> Grid:
    return Grid(
        headers=["Method", *(column.title for column in shown)],
        rows=[
            [
                (label(row.method), False),
                *((c.cell(row), c.primary and row.method in task.best) for c in shown),
            ]
            for row in task.methods
        ],
        title=title(task),
        note=note,
    )


def ece_svg(task: TaskSummary) -> Markup:
    """ECE and accuracy of a task's methods as a figure."""
    readings = "; ".join(
        f"{label(row.method)} ECE {percent(task.ece(row.method).mean)} %, "
        f"accuracy {percent(row.accuracy.mean)} %"
        for row in task.methods
    )
    name = f"ECE and accuracy on {task.task}"
    return svg(ece_chart(task), name, f"{readings}. ECE: {task.ece_label}")


def _risk_svg(task: TaskSummary) -> Markup | None:
    rows = [row for row in task.methods if row.risks]
    if not rows:
        return None
    readings = "; ".join(
        f"{label(row.method)}: "
        + ", ".join(f"{percent(error)} % wrong of {share:.0%}" for share, error in row.risks[1::2])
        for row in rows
    )
    name = f"Risk-coverage curves on {task.task}"
    return svg(risk_coverage_chart(task), name, readings)


def reliability_svgs(
    answers: Mapping[str, Sequence[Prediction]], task: TaskSummary
) -> tuple[list[Markup], list[Markup]]:
    """Reliability diagram and histogram of every method, by its predictions."""
    diagrams, histograms = [], []
    for method, predictions in answers.items():
        confidence = [each.confidence[task.primary] for each in predictions]
        correct = [each.correct for each in predictions]
        name, colour = label(method), style.colour(method)
        summary = f"{len(predictions)} answers, accuracy {percent(fmean(correct))} %, " + (
            f"mean confidence {percent(fmean(confidence))} %"
        )
        diagram = reliability_diagram(
            confidence, correct, definition=task.primary, bins=task.bins, binning=task.binning,
            title=name, colour=colour,
        )  # fmt: skip
        diagrams.append(svg(diagram, f"Reliability diagram of {name}", summary))
        histogram = confidence_histogram(confidence, correct, title=name, colour=colour)
        histograms.append(svg(histogram, f"Confidence of {name}", summary))
    return diagrams, histograms


def svg(figure: Any, name: str, description: str) -> Markup:
    """A figure in the page, with a name and a description for those who cannot see it."""
    # to_svg escapes title and description, and matplotlib every text it draws.
    return Markup(to_svg(figure, title=name, description=description))
