"""Charts as SVG text for pages: light or dark as the page is, small, and drawn in milliseconds.

Colours come from the style sheet (`STYLE`), so that a page can turn dark. A chart is 360 units
wide, as a phone is, and its text stays text. `cogcalib.drawing.canvas` draws pictures for files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH = 360.0
SIDE, TOP, BELOW = 40.0, 10.0, 36.0
"""Margins in units: left, above, and below the frame."""

FEW = 10
"""Bins with fewer answers than this are drawn pale: their accuracy is mostly chance."""

MARKERS = ("circle", "square", "up", "diamond", "down", "cross", "plus", "pentagon")
"""Shapes of points."""

STYLE = """
.plot { font: 11px system-ui, "DejaVu Sans", Verdana, sans-serif; }
.plot text { fill: var(--ink, #1f2933); }
.plot .tick { fill: var(--soft, #52606d); font-size: 10px; }
.plot .grid { stroke: var(--grid, #e4e7eb); }
.plot .edge { stroke: var(--soft, #52606d); fill: none; }
.plot .diagonal { stroke: var(--ink, #1f2933); stroke-dasharray: 4 3; fill: none; }
.plot .line { fill: none; stroke-width: 1.8; stroke-linejoin: round;
  stroke: color-mix(in oklab, var(--c), white var(--lift, 0%)); }
.plot .fill { fill: color-mix(in oklab, var(--c), white var(--lift, 0%)); }
.plot .stroke { stroke: color-mix(in oklab, var(--c), white var(--lift, 0%)); stroke-width: 2.2;
  fill: none; }
.plot .wrong { fill: var(--soft, #52606d); }
.plot .floor { fill: var(--grid, #e4e7eb); }
.plot .few { opacity: .4; }
.plot .gap { fill: none; stroke: var(--ink, #1f2933); stroke-width: .9; stroke-dasharray: 2 2; }
.plot .hit { fill: transparent; }
"""


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis: its ends, its ticks as (value, text), and what stands beside it."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    name: str = ""

    def share(self, value: float) -> float:
        """Where a value lies between the ends, held inside them."""
        width = self.high - self.low or 1.0
        return min(1.0, max(0.0, (value - self.low) / width))


def percent_scale(name: str, high: float = 1.0, low: float = 0.0) -> Scale:
    """An axis of fractions with ticks in percent."""
    ticks = [(value / 100, text) for value, text in round_ticks(100 * low, 100 * high)]
    return Scale(low, high, ticks, name)


def number_scale(name: str, low: float, high: float) -> Scale:
    """An axis of numbers."""
    return Scale(low, high, round_ticks(low, high), name)


def round_ticks(low: float, high: float, most: int = 5) -> list[tuple[float, str]]:
    """Round numbers between two ends, at most `most` + 1, with their text."""
    if not high > low:
        return [(low, f"{low:g}")]
    raw = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * k for k in (1, 2, 2.5, 5, 10) if unit * k >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    values = [step * k for k in range(first, math.floor(high / step + 1e-9) + 1)]
    return [(value, f"{round(value, 10) + 0.0:,g}") for value in values]


@dataclass
class Plot:
    """One chart: a frame with two axes, and what is drawn into it.

    Attributes:
        x, y: The axes; y has no ticks where its names stand in the rows.
        height: Of the whole chart, units.
        left: Margin on the left, units; wider where the ticks beside a name need it.
    """

    x: Scale
    y: Scale
    height: float = 250.0
    left: float = SIDE
    top: float = TOP
    below: float = BELOW
    _parts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.y.name and self.y.ticks:
            longest = max(len(text) for _, text in self.y.ticks)
            self.left = max(self.left, 21 + 6.2 * longest)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Units of a point of the data."""
        width, height = WIDTH - self.left - 10, self.height - self.top - self.below
        return (
            self.left + width * self.x.share(x),
            self.top + height * (1 - self.y.share(y)),
        )

    def bar(
        self, x: tuple[float, float], y: tuple[float, float], kind: str, colour: str = "",
        title: str = "", attributes: str = "",
    ) -> None:  # fmt: skip
        """A rectangle between two values of each axis."""
        (x0, y0), (x1, y1) = self.at(x[0], y[1]), self.at(x[1], y[0])
        size = f'x="{x0:.1f}" y="{y0:.1f}" width="{max(x1 - x0, 0):.1f}" height="{y1 - y0:.1f}"'
        self._add("rect", f"{size} {attributes}".strip(), kind, colour, title)

    def line(self, points: Sequence[tuple[float, float]], kind: str, colour: str = "",
             dashes: str = "") -> None:  # fmt: skip
        """A line through points; it is broken where one is no finite number."""
        runs: list[list[str]] = [[]]
        for x, y in points:
            if math.isfinite(x) and math.isfinite(y):
                runs[-1].append("{:.1f} {:.1f}".format(*self.at(x, y)))
            elif runs[-1]:
                runs.append([])
        path = "".join(f"M{'L'.join(run)}" for run in runs if run)
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        self._add("path", f'd="{path}"{dashed}', kind, colour, "")

    def marker(self, x: float, y: float, shape: str, colour: str, title: str = "",
               size: float = 4.0) -> None:  # fmt: skip
        """A point in one of `MARKERS`."""
        self._parts.append(marker(*self.at(x, y), shape, colour, title, size))

    def text(self, x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> None:
        """Text at units, not at values."""
        named = f' class="{kind}"' if kind else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>{escape(text)}</text>'
        )

    def overlay(self, other: Plot) -> None:
        """What was drawn into another chart of the same size, without its axes."""
        self._parts += other._parts

    def svg(self, title: str, description: str) -> str:
        """The chart as an ``<svg>`` element with a name and a description in words."""
        frame = Plot(self.x, self.y, self.height, self.left, self.top, self.below)
        frame._draw_axes()
        body = "".join(frame._parts) + "".join(self._parts)
        return (
            f'<svg class="plot" viewBox="0 0 {WIDTH:g} {self.height:g}" role="img" '
            f'aria-label="{escape(title)}" xmlns="http://www.w3.org/2000/svg">'
            f"<title>{escape(title)}</title><desc>{escape(description)}</desc>{body}</svg>"
        )

    def _draw_axes(self) -> None:
        floor = self.height - self.below
        for value, text in self.x.ticks:
            x, _ = self.at(value, self.y.low)
            self._parts.append(f'<path class="grid" d="M{x:.1f} {self.top:g}V{floor:g}"/>')
            self.text(x, floor + 13, text, "middle", "tick")
        for value, text in self.y.ticks:
            _, y = self.at(self.x.low, value)
            self._parts.append(f'<path class="grid" d="M{self.left:g} {y:.1f}H{WIDTH - 10:g}"/>')
            self.text(self.left - 5, y + 3.5, text, "end", "tick")
        self._parts.append(f'<path class="edge" d="M{self.left:g} {floor:g}H{WIDTH - 10:g}"/>')
        if self.x.name:
            self.text((self.left + WIDTH - 10) / 2, self.height - 5, self.x.name, "middle")
        if self.y.name:
            y = (self.top + floor) / 2
            self._parts.append(
                f'<text transform="translate(11 {y:.1f}) rotate(-90)" text-anchor="middle">'
                f"{escape(self.y.name)}</text>"
            )

    def _add(self, tag: str, size: str, kind: str, colour: str, title: str) -> None:
        coloured = f' style="--c:{colour}"' if colour else ""
        inside = f"><title>{escape(title)}</title></{tag}>" if title else "/>"
        self._parts.append(f'<{tag} class="{kind}" {size}{coloured}{inside}')


def marker(x: float, y: float, shape: str, colour: str, title: str = "", size: float = 4.0) -> str:
    """A point as an SVG element, units."""
    r = size
    if shape == "circle":
        drawn = f'<circle class="fill" cx="{x:.1f}" cy="{y:.1f}" r="{r:g}"'
    elif shape in ("cross", "plus"):
        d = r * (0.8 if shape == "cross" else 1.1)
        path = (
            f"M{x - d:.1f} {y - d:.1f}L{x + d:.1f} {y + d:.1f}M{x - d:.1f} {y + d:.1f}L{x + d:.1f}"
            f" {y - d:.1f}"
            if shape == "cross"
            else f"M{x - d:.1f} {y:.1f}H{x + d:.1f}M{x:.1f} {y - d:.1f}V{y + d:.1f}"
        )
        drawn = f'<path class="stroke" d="{path}"'
    else:
        corners, turn = {
            "square": (4, 45), "diamond": (4, 0), "up": (3, 0), "down": (3, 180), "pentagon": (5, 0)
        }[shape]  # fmt: skip
        angles = [math.radians(turn - 90 + 360 * k / corners) for k in range(corners)]
        points = " ".join(
            f"{x + 1.25 * r * math.cos(a):.1f},{y + 1.25 * r * math.sin(a):.1f}" for a in angles
        )
        drawn = f'<polygon class="fill" points="{points}"'
    drawn += f' style="--c:{colour}"'
    return (
        f"{drawn}><title>{escape(title)}</title></{drawn[1:].split(' ', 1)[0]}>"
        if title
        else (f"{drawn}/>")
    )


def standalone(svg: str) -> str:
    """A chart of a page as a file of its own."""
    head, rest = svg.split(">", 1)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head}><style>{STYLE}</style>{rest}\n'
