"""Colours and line styles of methods: the same in every figure of a report."""

from __future__ import annotations

from typing import Literal

from cogcalib.harness.config import Method

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
_OTHER = "#444444"


def colour(name: str) -> str:
    """Hex colour of a method; a variant wears its stem's colour (and `dashes` of its own)."""
    return _COLOURS.get(name, _COLOURS.get(Method.read(name).stem, _OTHER))


def dashes(name: str) -> Literal["-", "--", ":"]:
    """Matplotlib line style: solid for the canonical methods, broken for variants."""
    method = Method.read(name)
    if method.is_canonical:
        return "-"
    return ":" if method.posthoc else "--"
