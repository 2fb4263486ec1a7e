"""Out of domain: the same models on tasks that they were not fine-tuned on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cogcalib.harness.config.methods import label
from cogcalib.harness.reproduce.markdown import line
from readme_blocks.figures import change, paragraph, row_of, three

ROWS = ("sft", "sft+ts", "mc_dropout", "ensemble", "uniform", "gated", "gated-by-nll")
CHOSEN = {"uniform": "uniform", "gated": "gated", "gated-by-nll": "gated, by NLL"}


def domain(record: Mapping[str, Any]) -> str:
    """ECE and NLL by task, then what fine-tuning with a gate changes against temperature."""
    groups = [
        group
        for group in record["results"]
        if group["trained_on"] == "atlas/country" and not group["in_domain"]
    ]
    heads = [f"{group['task']} (n = {group['n']:,})" for group in groups]
    text = (
        f"Fine-tuned on atlas/country, {len(record['seeds'])} seeds; accuracy % / ECE vocab % / "
        "NLL. What was chosen, and the temperature, come from atlas/country's calibration split "
        "([docs/results/main-atlas.md](results/main-atlas.md))."
    )
    return "\n".join([paragraph(text), "", *_figures(groups, heads), "", *_changes(groups, heads)])


def _figures(groups: list[Mapping[str, Any]], heads: list[str]) -> Iterator[str]:
    yield line(["", *heads])
    yield line([":---", *["---:"] * len(heads)])
    for name in ROWS:
        rows = [row_of(group, name) for group in groups]
        method = rows[0]["method"]
        head = f"{CHOSEN[name]}: {label(method)}" if name in CHOSEN else label(name)
        yield line([head, *(three(row["mean"]) for row in rows)])


def _changes(groups: list[Mapping[str, Any]], heads: list[str]) -> Iterator[str]:
    yield line(["against SFT + TS, Δ ECE vocab % / Δ NLL", *heads])
    yield line([":---", *["---:"] * len(heads)])
    for name in ("gated", "gated+ts", "gated-by-nll", "gated-by-nll+ts"):
        rows = [row_of(group, name) for group in groups]
        against = [row["against"]["sft+ts"] for row in rows]
        cells = [f"{change(each, 'ece.vocab')} / {change(each, 'nll')}" for each in against]
        yield line([label(rows[0]["method"]), *cells])
