"""Where the gate might matter: the share of known questions, and the length of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cogcalib.harness.config.methods import label
from cogcalib.harness.reproduce.markdown import line
from readme_blocks.figures import changes, paragraph, row_of, three

ROWS = (
    "sft",
    "ls",
    "cols",
    "ls-options",
    "cols-options",
    "ls-options-calibrated",
    "cols-options-calibrated",
)
PAIRS = (
    ("cols", "ls"),
    ("cols-options", "ls-options"),
    ("cols-options-calibrated", "ls-options-calibrated"),
)
METRICS = ("accuracy", "ece.vocab", "nll")
LENGTHS = ("quarter", "half", "default", "double", "fourfold")


def regimes(ratio: Mapping[str, Any], length: Mapping[str, Any]) -> str:
    """Calibration and the gate by unknown : known, then by the optimiser steps."""
    mixtures = {name: name.replace("-", ":") for name in ratio["table"]["variants"]}
    steps = length["preset"]["config"]["train"]["steps"]
    variants = length["table"]["variants"]
    lengths = {name: f"{round(steps * variants[name]['length'])} steps" for name in LENGTHS}
    return "\n".join(
        [
            paragraph(
                f"{len(ratio['seeds'])} seeds, test; strengths as chosen on all the data. By the "
                "share of training questions that the base model does not know : knows, at equal "
                "number ([docs/results/ratio-atlas.md](results/ratio-atlas.md)); accuracy % / ECE "
                "vocab % / NLL:"
            ),
            "",
            *_table(ratio, mixtures),
            "",
            "By the length of training ([docs/results/length-atlas.md](results/length-atlas.md)):",
            "",
            *_table(length, lengths),
        ]
    )


def _table(record: Mapping[str, Any], heads: Mapping[str, str]) -> Iterator[str]:
    task = record["results"][0]["trained_on"]
    groups = {group["variant"]: group for group in record["results"] if group["task"] == task}
    yield line(["", *heads.values()])
    yield line([":---", *["---:"] * len(heads)])
    gaps = (row_of(groups[name], "sft")["mean"] for name in heads)
    yield line(
        ["SFT, confidence - accuracy"]
        + [f"{100 * (mean['confidence'] - mean['accuracy']):+.1f}" for mean in gaps]
    )
    held = {row["row"] for row in groups[next(iter(heads))]["rows"]}
    for row in (each for each in ROWS if each in held):
        means = [row_of(groups[name], row)["mean"] for name in heads]
        cells = [three(mean) for mean in means]
        yield line([label(row), *cells])
    for one, other in (pair for pair in PAIRS if held.issuperset(pair)):
        cells = [changes(groups[name], (one, other), METRICS) for name in heads]
        yield line([f"{label(one)} - {label(other)}, Δ", *cells])
