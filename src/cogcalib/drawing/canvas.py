"""The look that all figures share, and their way into a page as inline SVG or into a file."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any, ParamSpec

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cogcalib.records import replacing

P = ParamSpec("P")

INK = "#1f2933"
FAINT = "#9aa5b1"
GRID = "#e4e7eb"

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "hatch.linewidth": 0.7,
    # Text stays text: it can be selected, searched and read aloud, and wears the page's font.
    "svg.fonttype": "none",
    # A dollar sign in a name is a dollar sign.
    "text.parse_math": False,
}

FONT = 'font-family="DejaVu Sans, Verdana, sans-serif"'
"""Of figures as SVG: where the first is missing, the second is as wide."""


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the report's style: the caller's matplotlib settings neither count nor change."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with style.context(["default", STYLE]):
            return draw(*args, **kwargs)

    return wrapper


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches, with a canvas of its own and no pyplot behind it."""
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(wspace=0.06))
    FigureCanvasSVG(figure)
    return figure


def percent_axis(axes: Axes, *, x: bool = False, y: bool = False) -> None:
    """Scale an axis of fractions to 0..1 and print its ticks in percent."""
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    labels = [f"{100 * tick:.0f}" for tick in ticks]
    if x:
        axes.set_xlim(0, 1)
        axes.set_xticks(ticks, labels)
    if y:
        axes.set_ylim(0, 1)
        axes.set_yticks(ticks, labels)


def to_svg(figure: Figure, *, title: str, description: str) -> str:
    """A figure as an ``<svg>`` element, with title and description for those who cannot see it.

    Equal figures give equal text. The element has no fixed size: the page decides.

    Args:
        figure: What to draw.
        title: Short name; also keeps the ids of several figures on one page apart.
        description: What the figure shows, in words.
    """
    buffer = io.StringIO()
    # Without these four there is no <metadata> block, whose links would look like resources.
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with style.context(["default", STYLE | {"svg.hashsalt": title}]):
        figure.savefig(buffer, format="svg", metadata=metadata)
    text = buffer.getvalue()
    body = text[text.index("<svg") :].strip()
    opening, rest = body.split(">", 1)
    opening = re.sub(r'\s(?:width|height)="[^"]*"', "", opening)
    # Group names repeat from figure to figure, and the style would reach the whole page.
    rest = re.sub(r'<g id="[^"]*"', "<g", rest)
    rest = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", rest, flags=re.DOTALL)
    rest = _shortened(rest)
    named = f'{opening} {FONT} stroke-linejoin="round" role="img" aria-label="{escape(title)}">'
    return f"{named}<title>{escape(title)}</title><desc>{escape(description)}</desc>{rest}"


def save_png(figure: Figure, path: Path) -> Path:
    """Write a figure as an image, atomically. Equal figures give equal files."""
    with style.context(["default", STYLE]), replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130, metadata={"Software": None})
    return path


def _shortened(body: str) -> str:
    """Without what nobody sees: white space, bare groups, turns by 0, hundredths of a point."""
    body = re.sub(r' transform="rotate\(-0 [^"]*\)"', "", body)
    # The element itself names the font.
    body = body.replace(" font-family: 'DejaVu Sans', sans-serif;", "")
    body = re.sub(r"\s*\n\s*", " ", body).replace("> <", "><").replace(' "', '"')
    body = _without_bare_groups(body)
    numbers = re.compile(r"(\.\d)\d+")
    return re.sub(r' (?:d|x|y)="[^"]*"', lambda found: numbers.sub(r"\1", found[0]), body)


def _without_bare_groups(body: str) -> str:
    """Groups that had only a name group nothing."""
    bare: list[bool] = []

    def keep(found: re.Match[str]) -> str:
        if found[0] == "</g>":
            return "" if bare.pop() else "</g>"
        bare.append(found[0] == "<g>")
        return "" if bare[-1] else found[0]

    return re.sub(r"<g\b[^>/]*>|</g>", keep, body.replace("<g/>", ""))
