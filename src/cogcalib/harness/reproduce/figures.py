"""The figures of a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from cogcalib.harness.report.canvas import new_figure, styled
from cogcalib.harness.report.style import colour
from cogcalib.harness.reproduce.analyses import draw
from cogcalib.harness.reproduce.execute import PlanOutcome
from cogcalib.harness.reproduce.markdown import row_label
from cogcalib.harness.reproduce.table_rows import RowGroup


def draw_tables(outcome: PlanOutcome, groups: Sequence[RowGroup], stem: Path) -> list[Path]:
    """Every method's ECE on every task tested on: a figure per place, or all variants in one."""
    found = []
    together = outcome.plan.table.renderer == "variants"
    for group in groups:
        place = group.place
        name = place.task if together else f"{place.model.rpartition('/')[2]}-{place.path.name}"
        path = stem.with_name(f"{stem.name}-{name}.svg")
        if path in found:
            continue
        here = [g for g in groups if (g.place.task == place.task if together else g.place is place)]
        path.parent.mkdir(parents=True, exist_ok=True)
        _draw(here, together).savefig(path, metadata={"Date": None})
        found.append(path)
    return found


def draw_analyses(outcome: PlanOutcome, stem: Path) -> list[Path]:
    """The figures of a table of analyses, one per run folder that has one."""
    found = []
    for place in outcome.plan.shown():
        path = stem.with_name(f"{stem.name}-{place.path.parent.name}-{place.path.name}.svg")
        found += [path] if draw(outcome, place, path) else []
    return found


@styled
def _draw(groups: Sequence[RowGroup], together: bool) -> Figure:
    """A panel per task tested on, a line per method (with its variant and model, if together)."""
    tasks = list(dict.fromkeys(group.task for group in groups))
    panels = {task: [g for g in groups if g.task == task] for task in tasks}
    names = [
        (f"{group.place.model}, {group.place.variant}: " if together else "") + row_label(row)
        for group in panels[tasks[0]]
        for row in group.shown()
    ]
    figure = new_figure(2.4 + 1.6 * together + 2.3 * len(tasks), 1.0 + 0.22 * len(names))
    columns = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    for axes, (task, here) in zip(columns, panels.items(), strict=True):
        metric = f"ece.{here[0].primary}"
        for line, row in enumerate(row for group in here for row in group.shown()):
            mean, deviation = row.mean(metric), row.deviation(metric) or 0.0
            if mean is not None:
                shade = colour(row.method)
                axes.errorbar(
                    100 * mean, line, xerr=100 * deviation, fmt="o", color=shade, markersize=5
                )
        axes.set_title(task)
        axes.set_xlabel(f"ECE {here[0].primary} (%)")
        axes.margins(x=0.08)
        axes.set_xlim(left=0)
    columns[0].set_yticks(range(len(names)), names)
    columns[0].set_ylim(len(names) - 0.5, -0.5)
    return figure
