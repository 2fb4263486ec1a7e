"""How a figure of a record is printed."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any


def paragraph(text: str) -> str:
    """Broken into the README's lines."""
    return textwrap.fill(text, 104, break_on_hyphens=False)


def spread(row: Mapping[str, Any], metric: str, scale: int, digits: int) -> str:
    """Mean ± standard deviation over seeds; a dash where the metric is not defined."""
    mean, deviation = row["mean"].get(metric), row["deviation"].get(metric)
    if mean is None:
        return "–"  # noqa: RUF001 - a typographic dash is meant
    text = f"{scale * mean:.{digits}f}"
    return text if not deviation else f"{text} ± {scale * deviation:.{digits}f}"


def change(differences: Mapping[str, Mapping[str, Any]], metric: str) -> str:
    """``-8.3 [-10.1, -6.2] *``, points of percent but for nats."""
    found = differences[metric]
    scale, digits = (1, 3) if metric == "nll" else (100, 1)
    value, low, high = (f"{scale * found[key]:+.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]{' *' * found['significant']}"


def row_of(group: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A row of a table, by the name it is listed under."""
    row: Mapping[str, Any] = next(row for row in group["rows"] if row["row"] == name)
    return row


def three(mean: Mapping[str, float], ece: str = "ece.vocab") -> str:
    """``65.1 / 20.1 / 1.243``: accuracy %, ECE %, NLL."""
    return f"{100 * mean['accuracy']:.1f} / {100 * mean[ece]:.1f} / {mean['nll']:.3f}"


def changes(group: Mapping[str, Any], rows: tuple[str, str], metrics: Sequence[str]) -> str:
    """The differences of a pair of rows, one behind the other."""
    pair = next(pair for pair in group["pairs"] if tuple(pair["rows"]) == rows)
    return " / ".join(change(pair["difference"], metric) for metric in metrics)
