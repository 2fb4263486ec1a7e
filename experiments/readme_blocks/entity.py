"""A model of real facts: what it read, what it knows, and how fine-tuning calibrates it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cogcalib.harness.config.methods import label
from cogcalib.harness.reproduce.markdown import line
from readme_blocks.figures import change, paragraph, spread

METRICS = {
    "accuracy %": ("accuracy", 100, 1),
    "ECE mean %": ("ece.mean", 100, 1),
    "ECE joint %": ("ece.joint", 100, 1),
    "NLL": ("nll", 1, 3),
}


def entity(build: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """Share of right answers by readings, then the table in domain."""
    bands = [row for row in build["right"] if not row["asked"] and row["n"] >= 1000]
    splits = build["exposures"]["splits"].values()
    heads = [_readings(row) for row in bands]
    group = next(each for each in record["results"] if each["in_domain"])
    train = record["configurations"]["entity-24m/birthplace"]["tasks"]["limit"]["train"]
    lines = [
        paragraph(
            f"{build['parameters'] / 1e6:.1f} M parameters, pretrained in {build['minutes']} "
            f"minutes on {sum(each['facts'] for each in splits):,} facts of EntityQuestions "
            "([docs/reproduce.md](reproduce.md#real-facts-the-model-entity)). Questions it was "
            "never asked, answered right, by how often it read the fact:"
        ),
        "",
        line(["readings", *heads]),
        line([":---", *["---:"] * len(heads)]),
        line(["right %", *(f"{100 * row['right']:.1f}" for row in bands)]),
        "",
        paragraph(
            f"Fine-tuned on {train} of its questions, {group['task']}, test, "
            f"n = {group['n']:,}, {len(record['seeds'])} seeds "
            "([docs/results/main-entity-24m.md](results/main-entity-24m.md)):"
        ),
        "",
        *_table(group),
    ]
    return "\n".join(lines)


def _readings(row: Mapping[str, Any]) -> str:
    low, high = row["least"], row["most"]
    return str(low) if low == high else f"{low} to {high}"


def _table(group: Mapping[str, Any]) -> Iterator[str]:
    yield line(["method", *METRICS, "Δ ECE mean % to SFT", "Δ NLL to SFT"])
    yield line([":---", *["---:"] * (len(METRICS) + 2)])
    seen = set()
    for row in group["rows"]:
        if row["method"] in seen:
            continue
        seen.add(row["method"])
        against = row["against"].get("sft")
        changes = [
            change(against, metric) if against and metric in against else ""
            for metric in ("ece.mean", "nll")
        ]
        cells = [spread(row, *metric) for metric in METRICS.values()]
        yield line([label(row["method"]), *cells, *changes])
