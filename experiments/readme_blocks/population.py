"""What the embedded model knows, by population."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from readme_blocks.figures import paragraph


def population(record: Mapping[str, Any]) -> str:
    """The picture of what atlas knows by population, and what it says."""
    (first, *_, last), edges = record["shares"], record["edges"]
    known, unknown = (record["categories"].index(name) for name in ("HighlyKnown", "Unknown"))
    text = (
        f"What *atlas* knows of its {sum(record['counts']):,} training questions: of the smallest "
        f"eighth of the cities (up to {edges[1]:,} people) {first[known]:.0%} are HighlyKnown and "
        f"{first[unknown]:.0%} Unknown, of the largest (from {edges[-2]:,}) {last[known]:.0%} and "
        f"{last[unknown]:.0%}."
    )
    picture = "![What atlas knows against population](docs/results/population.svg)"
    return f"{paragraph(text)}\n\n{picture}"
