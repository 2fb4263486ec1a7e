"""Metrics as tables: for the terminal (rich) and for docs (Markdown)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cogcalib.harness.report.columns import (
    Column,
    calibration_caption,
    calibration_columns,
    caption,
    columns,
    name,
    title,
    use_caption,
    use_columns,
)
from cogcalib.harness.report.summary import TaskSummary, group_rows


def metrics_table(
    rows: Sequence[Mapping[str, Any]], *, split: str = "test", in_domain: str | None = None
) -> list[Table]:
    """Two tables a task: calibration; ranking and use. The in-domain task first.

    Methods stand in canonical order. A table fits 100 columns; below that the intervals move to a
    second line.

    Args:
        rows: Rows of ``metrics.json`` (fractions; shown in percent).
        split: The split to show.
        in_domain: The task trained on; if not named, the one with a calibration split.

    Raises:
        ValueError: If there is no row of the split, or the rows are malformed.
    """
    tables = []
    for task in group_rows(rows, split=split, in_domain=in_domain):
        shown = calibration_columns(task)
        tables.append(_rich_table(task, title(task), shown, calibration_caption(task)))
        if shown := use_columns(task):
            heading = f"{title(task)} · ranking and use"
            tables.append(_rich_table(task, heading, shown, use_caption(task)))
    return tables


def markdown_table(
    rows: Sequence[Mapping[str, Any]], *, split: str = "test", in_domain: str | None = None
) -> str:
    """The wide tables as GitHub Markdown, title above and caption below each.

    Raises:
        ValueError: As `metrics_table`.
    """
    return "\n".join(_markdown(task) for task in group_rows(rows, split=split, in_domain=in_domain))


def _rich_table(task: TaskSummary, heading: str, shown: Sequence[Column], note: str) -> Table:
    table = Table(
        title=Text(heading, style="bold"),
        caption=Text(note, style="dim"),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
        header_style="bold",
    )
    table.add_column("Method")
    for column in shown:
        table.add_column(escape(column.title), justify="right")
    for row in task.methods:
        cells = [
            Text(column.cell(row), style="bold" * (column.primary and row.method in task.best))
            for column in shown
        ]
        table.add_row(Text(name(row)), *cells)
    return table


def _markdown(task: TaskSummary) -> str:
    shown = columns(task)
    lines = [
        f"**{_cell(title(task))}**",
        "",
        _line(["Method", *(column.title for column in shown)]),
        _line([":---", *("---:" for _ in shown)]),
    ]
    for row in task.methods:
        cells = [_cell(name(row))]
        for column in shown:
            text = _cell(column.cell(row))
            cells.append(f"**{text}**" if column.primary and row.method in task.best else text)
        lines.append(_line(cells))
    return "\n".join([*lines, "", caption(task), ""])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
