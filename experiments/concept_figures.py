"""The figures of docs/concepts.md: what the gate looks at, and what the support allows.

    python experiments/concept_figures.py             # asks atlas, some seconds
    python experiments/concept_figures.py --drawn     # from docs/figures/gate.json alone

writes docs/figures/gate.{json,svg} and docs/figures/support.svg. The questions are those of the
calibration split of atlas/country, asked of the model before any training.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cogcalib import load_task
from cogcalib.drawing.canvas import FAINT, new_figure, styled, to_svg
from cogcalib.knowledge import estimate_threshold, read_signals
from cogcalib.modeling import load_model
from cogcalib.provenance import code_state
from cogcalib.records import write_text
from cogcalib.scoring import score

FIGURES = Path(__file__).resolve().parents[1] / "docs" / "figures"
EDGES = np.linspace(0.0, 3.0, 31)
"""Nats; the last bin also holds what lies above."""
VOCABULARY, OPTIONS = 128_256, 4
"""Tokens of Llama 3, and a question's options."""
KNOWN, UNKNOWN = "#0072b2", "#d55e00"


def measure() -> dict[str, Any]:
    """NLLs of known and unknown questions as counts, and the threshold between them."""
    model, tokenizer = load_model("atlas")
    examples = load_task("atlas/country").splits["calibration"]
    nll = np.array([each.nll for each in read_signals(model, tokenizer, examples)])
    known = np.array([each.correct for each in score(model, tokenizer, examples)])
    found = estimate_threshold(nll, known)
    counts = {
        name: np.histogram(np.minimum(nll[which], EDGES[-1]), EDGES)[0].tolist()
        for name, which in {"known": known, "unknown": ~known}.items()
    }
    return {
        "command": "python experiments/concept_figures.py",
        "model": "atlas, before any training",
        "data": "atlas/country, calibration",
        "code": code_state(),
        "n": len(examples),
        "threshold": round(found.value, 4),
        "separation": round(found.separation, 4),
        "accuracy": round(found.accuracy, 4),
        "bin_width": 0.1,
        **counts,
    }


@styled
def draw_gate(record: dict[str, Any]) -> Figure:
    """Histograms of the NLL, known above unknown, with the threshold."""
    figure = new_figure(6.2, 2.6)
    axes = figure.subplots()
    for name, colour, sign in (("known", KNOWN, 1), ("unknown", UNKNOWN, -1)):
        heights = sign * np.array(record[name])
        axes.bar(EDGES[:-1], heights, np.diff(EDGES), align="edge", color=colour, edgecolor="white")
    axes.axvline(record["threshold"], color="black", linewidth=1, linestyle="--")
    axes.axhline(0, color=FAINT, linewidth=0.8)
    top, bottom = axes.get_ylim()[1], axes.get_ylim()[0]
    at = record["threshold"]
    axes.text(at + 0.05, 0.92 * top, f"threshold, {at:.2f} nats", va="top")
    axes.text(at + 0.05, 0.6 * top, "answered correctly", color=KNOWN, va="top")
    axes.text(at + 0.9, 0.75 * bottom, "answered wrongly", color=UNKNOWN)
    axes.set_xlabel("NLL of the correct answer (nats)")
    axes.set_ylabel("questions")
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    return figure


def largest_confidence(alpha: np.ndarray, over: int, options: int = OPTIONS) -> np.ndarray:
    """Confidence among the options at which smoothing stops pushing down, a fraction.

    The minimiser of CE + alpha R over `over` tokens gives the correct one 1 - alpha + alpha / over
    and every other alpha / over; the confidence is its share among the options.
    """
    correct = 1 - alpha + alpha / over
    return correct / (correct + (options - 1) * alpha / over)


@styled
def draw_support() -> Figure:
    """The largest confidence against alpha, over the vocabulary and over the options."""
    figure = new_figure(6.2, 2.4)
    axes = figure.subplots()
    alpha = np.linspace(0, 0.5, 101)
    for name, over, colour in (
        (f"over the vocabulary ({VOCABULARY:,} tokens)", VOCABULARY, UNKNOWN),
        (f"over the {OPTIONS} options", OPTIONS, KNOWN),
    ):
        axes.plot(alpha, 100 * largest_confidence(alpha, over), color=colour)
        last = 100 * largest_confidence(alpha[-1:], over)[0]
        shift = {VOCABULARY: -3.0, OPTIONS: 14.0}[over]
        axes.text(0.5, last + shift, name, color=colour, ha="right", va="top")
    axes.set_ylim(55, 103)
    axes.set_xlabel("alpha of label smoothing")
    axes.set_ylabel("largest confidence\namong the options (%)")
    return figure


def main() -> None:
    """Measure if wanted, and write both figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drawn", action="store_true", help="keep the record, draw it anew")
    path = FIGURES / "gate.json"
    if not parser.parse_args().drawn:
        write_text(path, json.dumps(measure()) + "\n")
    for name, text in figures(json.loads(path.read_text(encoding="utf-8"))).items():
        write_text(FIGURES / name, text)


def figures(record: dict[str, Any]) -> dict[str, str]:
    """File name -> SVG."""
    share = record["accuracy"]
    return {
        "gate.svg": to_svg(
            draw_gate(record),
            title="NLL of questions that atlas answers correctly, and wrongly",
            description=f"A threshold of {record['threshold']:.2f} nats tells {share:.0%} apart.",
        ),
        "support.svg": to_svg(
            draw_support(),
            title="Largest confidence that label smoothing aims at, by its support",
            description="Over the vocabulary it stays near 100 %, over four options it falls.",
        ),
    }


if __name__ == "__main__":
    main()
