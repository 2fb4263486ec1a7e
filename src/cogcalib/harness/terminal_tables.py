"""Tables that lose no name, word or digit, however narrow the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

NARROW = 14
"""Characters of a line of a name that is broken behind its hyphens."""


def show_table(table: Table, terminal: Console) -> None:
    """Print a table whole.

    Where there is little room headers break between words, then names that are `rich.text.Text`
    behind a hyphen or a sign; where that is not enough, the rows stand one below the other.

    Args:
        table: With the names of its rows in the first column.
        terminal: Where it goes.
    """
    heads = [_plain(column.header) for column in table.columns]
    rows = [tuple(map(_plain, row)) for row in _cells(table)]
    for column in table.columns:
        column.width, column.min_width, column.max_width = 1, None, None
    room = terminal.width - terminal.measure(table).maximum + len(heads)
    widths = _widths(heads, [heads, *rows], room)
    if widths is None:
        names = [cell for cell in table.columns[0].cells if isinstance(cell, Text)]
        for name in names:
            name.plain = _broken(name.plain)
        narrow = [tuple(map(_plain, row)) for row in _cells(table)]
        widths = _widths(heads, [heads, *narrow], room)
    if widths is None:
        _show_stacked(table, heads, rows, terminal)
        return
    for column, width in zip(table.columns, widths, strict=True):
        column.width = width
    terminal.print(table)


def _cells(table: Table) -> Iterable[tuple[Any, ...]]:
    return zip(*(column.cells for column in table.columns), strict=True)


def _widths(heads: Sequence[str], unbroken: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """Characters of each column: names first, then whoever has least; None without the room.

    Args:
        heads: Of the columns.
        unbroken: Rows whose words stay whole.
        room: Characters of all columns.
    """
    columns = list(zip(*unbroken, strict=True)) or [("",) for _ in heads]
    widths = [max(_longest(cell.split()) for cell in cells) or 1 for cells in columns]
    wanted = [
        max(_longest([head]), *(_longest(cell.splitlines()) for cell in cells))
        for head, cells in zip(heads, columns, strict=True)
    ]
    spare = room - sum(widths)
    if spare < 0:
        return None
    more = min(spare, wanted[0] - widths[0])
    widths[0] += more
    for _ in range(spare - more):
        lacking = [at for at, width in enumerate(widths) if width < wanted[at]]
        if lacking:
            widths[min(lacking, key=widths.__getitem__)] += 1
    return widths


def _longest(texts: Iterable[str]) -> int:
    return max(map(cell_len, texts), default=0)


def _broken(name: str) -> str:
    """A name on lines of `NARROW` characters, as far as its signs and spaces let it break."""
    lines = [""]
    for part in re.findall(r"[^-+@/ ]*[-+@/ ]*", name):
        if lines[-1] and cell_len((lines[-1] + part).rstrip()) > NARROW:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def _show_stacked(
    table: Table, heads: Sequence[str], rows: Sequence[Sequence[str]], terminal: Console
) -> None:
    width = _longest(heads)
    if table.title:
        terminal.print(table.title)
    for first, *others in rows:
        terminal.print(Text(f"{heads[0]} {first}".strip(), "bold"), overflow="fold")
        for head, cell in zip(heads[1:], others, strict=True):
            terminal.print(Text(f"  {head:<{width}}  {cell}"))
    if table.caption:
        terminal.print(table.caption)


def _plain(cell: Any) -> str:
    return cell.plain if isinstance(cell, Text) else Text.from_markup(str(cell)).plain
