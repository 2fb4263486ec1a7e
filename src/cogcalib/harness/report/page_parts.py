"""The parts that pages are laid out of: tables, charts, and the page that the template prints."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from cogcalib.drawing.svg_plot import marker
from cogcalib.harness.config.methods import canonical_order, label
from cogcalib.harness.report.bin_charts import bin_panels
from cogcalib.harness.report.charts import (
    Chart,
    Looks,
    Risks,
    accuracy_panel,
    ece_panel,
    risk_panel,
)
from cogcalib.harness.report.columns import (
    Column,
    calibration_caption,
    calibration_columns,
    title,
    use_caption,
    use_columns,
)
from cogcalib.harness.report.mistakes import Mistake
from cogcalib.harness.report.page_data import definitions_of
from cogcalib.harness.report.summary import TaskSummary
from cogcalib.records import Prediction

WHOLE = 24
"""Letters of a name in one line; what is longer would fill a phone."""


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
class DefinitionView:
    """What is shown while one confidence definition is chosen.

    Attributes:
        shown: Numbers of the page's definitions it is for, apart by blanks.
        definition: Which confidence it is of.
        charts: Its charts.
        grid: Its table, if it has one.
        method: Number of the method it is of; None: of all.
    """

    shown: str
    definition: str
    charts: list[Chart]
    grid: Grid | None = None
    method: int | None = None


@dataclass(frozen=True, slots=True)
class TaskPart:
    """What the page says of one task: calibration by definition, then ranking and use."""

    title: str
    accuracy: Chart
    readings: list[DefinitionView]
    risks: list[DefinitionView]
    use: Grid | None


@dataclass(frozen=True, slots=True)
class Page:
    """Everything the template prints. Texts are plain and escaped there; charts are our SVG.

    What is empty or None has no section.
    """

    name: str
    findings: list[str]
    facts: list[tuple[str, str]]
    definitions: list[tuple[str, str]]
    tasks: list[TaskPart]
    legend: list[tuple[Markup, str]]
    figure_note: str
    bins: int
    methods: list[tuple[str, str]]
    bin_panels: list[DefinitionView] = field(default_factory=list)
    data: Markup = field(default_factory=Markup)
    differences: list[Grid] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    mistake_methods: tuple[str, str] = ("", "")
    training: list[Chart] = field(default_factory=list)
    thresholds: list[Chart] = field(default_factory=list)
    training_legend: list[tuple[Markup, str]] = field(default_factory=list)
    probe: list[Chart] = field(default_factory=list)
    probe_table: Grid | None = None
    probed_before: bool = False
    data_table: Grid | None = None
    asked: Grid | None = None
    config: str = ""
    record: list[tuple[str, Grid]] = field(default_factory=list)

    @property
    def charts(self) -> list[Chart]:
        """Every chart on the page, in its order."""
        found: list[Chart] = []
        for task in self.tasks:
            found += [task.accuracy]
            for reading in (*task.readings, *task.risks):
                found += reading.charts
        for reading in self.bin_panels:
            found += reading.charts
        return [*found, *self.thresholds, *self.training, *self.probe]


def even_columns(charts: int, most: int) -> int:
    """Columns, at most so many, that leave no chart alone in the last row where that can be."""
    rows = max(1, math.ceil(charts / most))
    even = math.ceil(charts / rows)
    found = [each for each in range(even, 1, -1) if charts % each != 1]
    return max(1, found[0] if found else even)


def whole_words(text: str) -> Markup:
    """A name that lines do not break: one that is short, of a longer one its words with hyphens."""
    whole = Markup('<span class="whole">{}</span>')
    if len(text) <= WHOLE:
        return whole.format(text)
    words = text.split(" ")
    shown = [whole.format(each) if "-" in each and len(each) <= WHOLE else each for each in words]
    return Markup(" ").join(shown)


def figures_aside(text: str) -> Markup:
    """A sentence whose parentheses and brackets are set back: it reads without them."""
    set_back = Markup('<span class="figures">{}</span>')
    parts = re.split(r"(\([^()]*\)|\[[^\[\]]*\])", text)
    return Markup("").join(
        set_back.format(each) if at % 2 else each for at, each in enumerate(parts)
    )


def page_definitions(tasks: Sequence[TaskSummary]) -> list[str]:
    """The confidence definitions of all tasks, those of the first task first."""
    return list(dict.fromkeys(name for task in tasks for name in task.definitions))


def _shown(definitions: Sequence[str], own: Sequence[str], definition: str) -> str:
    """For which definitions a reading stands: its own; a task's first also for those it lacks."""
    instead = [name for name in definitions if name not in own and definition == own[0]]
    return " ".join(str(definitions.index(name)) for name in (definition, *instead))


def task_part(
    task: TaskSummary,
    definitions: Sequence[str],
    looks: Looks,
    curves: Mapping[str, Mapping[str, Risks]] | None = None,
) -> TaskPart:
    """Charts and tables of a task.

    Args:
        task: The task.
        definitions: Of the page.
        looks: Of the methods.
        curves: Definition -> method -> its risk-coverage curve, where predictions are at hand.
    """
    readings = [
        DefinitionView(
            _shown(definitions, task.definitions, each),
            each,
            [ece_panel(task, each, looks)],
            metrics_grid(task, each),
        )
        for each in task.definitions
    ]
    plain = {row.method: [(*point, None) for point in row.risks] for row in task.methods}
    known = curves or {task.scored: {name: curve for name, curve in plain.items() if curve}}
    drawn = [name for name, found in known.items() if found]
    risks = [
        DefinitionView(_shown(definitions, drawn, each), each,
                [risk_panel(known[each], looks, each, task.task)])
        for each in drawn
    ]  # fmt: skip
    shown = use_columns(task)
    use = _grid(task, shown, use_caption(task)) if shown else None
    return TaskPart(title(task), accuracy_panel(task, looks), readings, risks, use)


def metrics_grid(task: TaskSummary, definition: str | None = None) -> Grid:
    """The table of a task's calibration, judged under one confidence definition."""
    shown = calibration_columns(task, wide=True, definition=definition)
    return _grid(task, shown, calibration_caption(task, definition))


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


def bin_readings(
    answers: Mapping[str, Sequence[Prediction]],
    task: TaskSummary,
    definitions: Sequence[str],
    looks: Looks,
) -> list[DefinitionView]:
    """Reliability diagram and histogram of every method and definition, by its predictions."""
    readings, own = [], definitions_of(answers, task)
    for number, (method, predictions) in enumerate(answers.items()):
        correct = [each.correct for each in predictions]
        for definition in own:
            confidence = [each.confidence[definition] for each in predictions]
            charts = bin_panels(
                confidence, correct, name=label(method), colour=looks[method].colour,
                definition=definition, bins=task.bins, binning=task.binning,
            )  # fmt: skip
            shown = _shown(definitions, own, definition)
            readings.append(DefinitionView(shown, definition, charts, method=number))
    return readings


def legend(names: Iterable[str], looks: Looks) -> list[tuple[Markup, str]]:
    """Swatch and name of each method."""
    return [(_swatch(name, looks), label(name)) for name in sorted(names, key=canonical_order)]


def _swatch(name: str, looks: Looks) -> Markup:
    look = looks[name]
    dashes = f' stroke-dasharray="{look.dashes}"' if look.dashes else ""
    return Markup(
        '<svg class="plot swatch" viewBox="0 0 28 12" aria-hidden="true">'
        f'<path class="line" style="--c:{look.colour}" d="M0 6H28"{dashes}/>'
        f"{marker(14, 6, look.marker, look.colour)}</svg>"
    )
