"""How methods are ordered, named and coloured: the same everywhere in a report."""

from __future__ import annotations

from typing import Literal

ORDER = (
    "base",
    "sft",
    "sft+ts",
    "mc_dropout",
    "ensemble",
    "laplace",
    "ls",
    "mbls",
    "ecp",
    "cols",
    "combls",
    "coecp",
)
"""Canonical order; variants (``cols-random`` ...) follow in the order of their roots."""

COGCALIB = ("cols", "combls", "coecp")
"""The three methods this project is about."""

_LABELS = {
    "base": "Base",
    "sft": "SFT",
    "mc_dropout": "MC dropout",
    "ensemble": "Ensemble",
    "laplace": "Laplace",
    "ls": "LS",
    "mbls": "MbLS",
    "ecp": "ECP",
    "cols": "CoLS",
    "combls": "CoMbLS",
    "coecp": "CoECP",
    "ts": "TS",
    "platt": "Platt",
}

# Okabe & Ito (2008) and Tol's muted set: distinguishable under the common colour deficiencies.
_COLOURS = {
    "base": "#6b7280",
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

_WITHOUT_PENALTY = {
    "base": "the model before fine-tuning",
    "sft": "plain cross-entropy fine-tuning",
    "mc_dropout": "SFT, averaged over dropout masks at test time",
    "ensemble": "SFT, averaged over several trainings",
    "laplace": "SFT with a Laplace approximation over the adapter",
}
_PENALTIES = {"ls": "label smoothing", "mbls": "margin penalty", "ecp": "entropy penalty"}
_GATES = {
    "random": "on examples drawn at random, at the same rate (control)",
    "inverted": "on what the model does not know (control)",
    "oracle": "on what a probe of the base model found known",
    "soft": "on what the model knows, weighted without a hard edge",
}
_SUFFIXES = {
    "options": "over the answer options instead of the whole vocabulary",
    "auto": "self-tuned strength",
    "calibrated": "each example smoothed to the accuracy of its confidence",
    "ts": "temperature scaling on the calibration split",
    "platt": "Platt scaling on the calibration split",
    "isotonic": "isotonic regression on the calibration split",
}


def root(method: str) -> str:
    """The method a variant derives from: ``cols`` for ``cols-random@0.1+ts``."""
    return method.partition("+")[0].partition("@")[0].partition("-")[0]


def sort_key(method: str) -> tuple[int, int, str]:
    """Sorts method names into canonical order, variants and unknown names behind it."""
    if method in ORDER:
        return ORDER.index(method), 0, method
    base = root(method)
    return len(ORDER), ORDER.index(base) if base in ORDER else len(ORDER), method


def label(method: str) -> str:
    """The name to print: ``CoLS-random@0.1 + TS`` for ``cols-random@0.1+ts``."""
    trained, *posthoc = method.split("+")
    plain, at, strength = trained.partition("@")
    name, *suffixes = plain.split("-")
    parts = ["-".join([_LABELS.get(name, name), *suffixes]) + at + strength]
    return " + ".join(parts + [_LABELS.get(step, step) for step in posthoc])


def colour(method: str) -> str:
    """Hex colour of a method; a variant wears its root's colour (and `dashes` of its own)."""
    return _COLOURS.get(method, _COLOURS.get(root(method), _OTHER))


def dashes(method: str) -> Literal["-", "--", ":"]:
    """Matplotlib line style: solid for the canonical methods, broken for variants."""
    if method in ORDER:
        return "-"
    return "--" if "+" not in method else ":"


def describe(method: str) -> str:
    """One line on what the method is, variants included."""
    trained, *posthoc = method.split("+")
    plain, _, strength = trained.partition("@")
    name, *suffixes = plain.split("-")
    parts = [_WITHOUT_PENALTY.get(name, name)]
    if name in _PENALTIES:
        parts = [f"{_PENALTIES[name]} on every example"]
    elif name in COGCALIB:
        gate = next((each for each in suffixes if each in _GATES), None)
        where = _GATES[gate] if gate else "on what the model already knows"
        parts = [f"CogCalib: {_PENALTIES[name.removeprefix('co')]} {where}"]
    alpha, of, margin = strength.partition("m")
    strengths = [f"alpha {alpha}"] if alpha else []
    strengths += [f"a margin of {margin} logits"] if of else []
    suffixes = [_SUFFIXES.get(each, each) for each in suffixes if each not in _GATES]
    posthoc = [_SUFFIXES.get(each, each) for each in posthoc]
    return "; ".join(parts + suffixes + strengths + posthoc)
