"""The main table and what it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cogcalib.harness.config.methods import label
from cogcalib.harness.reproduce.markdown import line
from readme_blocks.figures import change, paragraph, spread

SHOWN = (
    "base",
    "sft",
    "sft+ts",
    "sft+platt",
    "focal",
    "mc_dropout",
    "ensemble",
    "laplace",
    "uniform",
    "uniform+ts",
    "gated",
    "gated+ts",
    "gated-by-nll",
    "gated-by-nll+ts",
)
CHOSEN = {"gated": "gated", "uniform": "uniform", "gated-by-nll": "gated, by NLL"}
COLUMNS = {
    "accuracy %": ("accuracy", 100, 1),
    "ECE vocab %": ("ece.vocab", 100, 1),
    "ECE options %": ("ece.options", 100, 1),
    "NLL": ("nll", 1, 3),
    "Brier": ("brier", 1, 3),
}


def results(record: Mapping[str, Any]) -> str:
    """The main table and what it says."""
    (group,) = (
        each
        for each in record["results"]
        if each["trained_on"] == "atlas/country" and each["task"] == "atlas/country"
    )
    rows = {row["row"]: row for row in group["rows"]}
    pairs = {tuple(pair["rows"]): pair["difference"] for pair in group["pairs"]}
    lines = [
        f"On the embedded model, {len(record['seeds'])} seeds, mean ± standard deviation, percent, "
        f"atlas/country, test, n = {group['n']:,};",
        "strengths and the variants called gated and uniform were chosen on the calibration split.",
        "All rows, tests of every difference, costs, out of domain and open-ended:",
        "[docs/results/main-atlas.md](docs/results/main-atlas.md).",
        "",
        *_table(rows),
        "",
        *(paragraph(text) for text in _sentences(rows, pairs)),
    ]
    return "\n".join(lines)


def _table(rows: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield line(["method", *COLUMNS, "passes"])
    yield line([":---", *["---:"] * (len(COLUMNS) + 1)])
    for name in SHOWN:
        if name in rows:
            row = rows[name]
            cells = [spread(row, *column) for column in COLUMNS.values()]
            yield line([_label(name, row["method"]), *cells, str(row["cost"]["passes"])])


def _label(name: str, method: str) -> str:
    chosen = name.partition("+")[0]
    return f"{CHOSEN[chosen]}: {label(method)}" if chosen in CHOSEN else label(method)


def _sentences(rows: Mapping[str, Any], pairs: Mapping[Any, Any]) -> Iterator[str]:
    yield (
        "Differences are taken question by question (95 % interval in brackets, * where it "
        "excludes zero). By the lowest ECE at SFT's accuracy, the first rule of choice, "
        f"{_gain(rows, 'gated')}. By the lowest NLL, the second, {_gain(rows, 'gated-by-nll')}."
    )
    yield ""
    by_nll = pairs["gated-by-nll", "uniform-by-nll"]
    law = pairs["cols-options-calibrated", "ls-options-calibrated"]
    yield (
        "**Does the gate matter?** Gated against uniform, each at its best by ECE: "
        f"{_three(pairs['gated', 'uniform'])}; by NLL, where their laws of strength differ too: "
        f"{_three(by_nll)}; the same law, "
        f'`alpha="calibrated"`, with and without the gate: {_three(law)}.'
    )


def _gain(rows: Mapping[str, Any], name: str) -> str:
    row = rows[name]
    ece = row["mean"]["ece.vocab"] / rows["sft"]["mean"]["ece.vocab"] - 1
    accuracy, nll = (
        change(row["against"]["sft"], "accuracy"),
        change(row["against"]["sft+ts"], "nll"),
    )
    return (
        f"{label(row['method'])} changes the calibration error (vocab) by {ece:+.0%} and "
        f"the accuracy by {accuracy} points against plain fine-tuning, the NLL by {nll} against "
        "temperature scaling"
    )


def _three(difference: Mapping[str, Mapping[str, Any]]) -> str:
    return (
        f"ECE (vocab) {change(difference, 'ece.vocab')}, "
        f"accuracy {change(difference, 'accuracy')}, NLL {change(difference, 'nll')}"
    )
