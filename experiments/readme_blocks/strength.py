"""Strengths that tune themselves against the best of a grid, on every task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cogcalib.harness.config.methods import label
from cogcalib.harness.reproduce.markdown import line
from readme_blocks.figures import changes, paragraph, row_of, three

FAMILIES = {"cols": "over the vocabulary", "cols-options": "over the options"}
LAWS = ("auto", "calibrated")


def strength(record: Mapping[str, Any]) -> str:
    """A table for each support: figures of the fixed strength, and what each law changes."""
    groups = [group for group in record["results"] if group["variant"] == "default"]
    lines = [
        paragraph(
            f"{len(record['seeds'])} seeds, test; trained on atlas/country, the last task on "
            "itself. Accuracy % / ECE % (vocab; open-ended mean) / NLL of the strength that was "
            "best of the grid on the calibration split, and what the law of strength changes "
            "([docs/results/main-atlas.md](results/main-atlas.md))."
        )
    ]
    for method, about in FAMILIES.items():
        lines += ["", *_table(groups, method, about)]
    return "\n".join(lines)


def _table(groups: list[Mapping[str, Any]], method: str, about: str) -> Iterator[str]:
    here = [group for group in groups if any(row["row"] == method for row in group["rows"])]
    yield line([about, "best fixed", *(f"{label(f'{method}-{law}')}, Δ" for law in LAWS)])
    yield line([":---", *["---:"] * (1 + len(LAWS))])
    for group in here:
        ece = "ece.vocab" if "ece.vocab" in group["rows"][0]["mean"] else "ece.mean"
        row, metrics = row_of(group, method), ("accuracy", ece, "nll")
        cells = [f"{label(row['method'])}: {three(row['mean'], ece)}"]
        cells += [changes(group, (f"{method}-{law}", method), metrics) for law in LAWS]
        yield line([group["task"], *cells])
