"""The look of methods: colours, markers and line styles, the same in every figure of a report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cogcalib.drawing.svg_plot import MARKERS
from cogcalib.harness.config.methods import Method, canonical_order

# Okabe & Ito (2008) and Tol's muted set: distinguishable under the common colour deficiencies.
_COLOURS = {
    "base": "#6b7280",
    "base+ts": "#9ca3af",
    "sft": "#d55e00",
    "sft+ts": "#e69f00",
    "mc_dropout": "#999933",
    "ensemble": "#882255",
    "laplace": "#a6761d",
    "ls": "#56b4e9",
    "mbls": "#44aa99",
    "ecp": "#cc79a7",
    "cols": "#0072b2",
    "combls": "#117733",
    "coecp": "#332288",
}
_OTHERS = (
    "#c51b7d", "#8c6d31", "#1b9e77", "#7570b3", "#e7298a", "#66a61e", "#5e4fa2", "#b15928",
    "#3288bd", "#a50026", "#4d9221", "#762a83", "#2b8cbe", "#8c510a", "#636363", "#dd3497",
)  # fmt: skip
"""For variants and names that are not ours, in their order."""
_OTHER = "#444444"


@dataclass(frozen=True, slots=True)
class Look:
    """How a method is drawn: hex colour, one of `MARKERS`, and dashes in units (empty: solid)."""

    colour: str
    marker: str
    dashes: str


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look of its own for every method of a page, in canonical order.

    Colour and marker together are distinct, whatever the number of methods up to a hundred.
    """
    found: dict[str, Look] = {}
    free = [each for each in _OTHERS if each not in _COLOURS.values()]
    for place, name in enumerate(sorted(dict.fromkeys(names), key=canonical_order)):
        method = Method.read(name)
        fixed = _COLOURS.get(name)
        own = fixed or free[sum(each not in _COLOURS for each in found) % len(free)]
        dashes = "" if method.is_canonical else "2 3" if method.posthoc else "6 3"
        shape = MARKERS[(place + place // len(free)) % len(MARKERS)]
        found[name] = Look(own, shape, dashes)
    return found


def colour(name: str) -> str:
    """Hex colour of a method; a variant wears its stem's colour."""
    return _COLOURS.get(name, _COLOURS.get(Method.read(name).stem, _OTHER))
