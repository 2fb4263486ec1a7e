"""The comparisons that a table was made for: settled beforehand, adjusted for each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cogcalib.harness.report.resampled import difference
from cogcalib.harness.reproduce.definitions import Table
from cogcalib.harness.reproduce.markdown import (
    MISSING,
    difference_text,
    head,
    line,
    row_label,
)
from cogcalib.harness.reproduce.table_rows import RowGroup, TableRow
from cogcalib.metrics import PairedDifference, holm


@dataclass(frozen=True)
class Claim:
    """Two rows of a group, compared by the table's endpoint.

    Attributes:
        group: Where they stand.
        one, other: The rows.
        found: Metric of the endpoint -> difference of the two, where both have it.
        adjusted: The same metrics -> p-value, adjusted for all claims of the table by this metric.
    """

    group: RowGroup
    one: TableRow
    other: TableRow
    found: Mapping[str, PairedDifference]
    adjusted: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Where, which rows, and metric -> [difference, low, high, adjusted p-value]."""
        return {
            "model": self.group.place.model,
            "variant": self.group.place.variant,
            "task": self.group.task,
            "rows": [self.one.name, self.other.name],
            "difference": {
                name: [each.difference, each.low, each.high, self.adjusted[name]]
                for name, each in self.found.items()
            },
        }


def claims(table: Table, groups: Sequence[RowGroup]) -> list[Claim]:
    """The cited comparisons of a table in every group that they are about.

    That is every group in domain; of a table on transfer every group out of domain, unless it
    compares means over tasks (`cogcalib.harness.reproduce.transfer`).
    """
    if table.drawn_against is not None:
        return []
    in_domain = table.where != "out_of_domain"
    compared = [
        (group, one, other, _differences(table, one, other))
        for group in groups
        if group.in_domain == in_domain
        for one, other in group.pairs(table.cited)
    ]
    adjusted: list[dict[str, float]] = [{} for _ in compared]
    for metric in table.endpoint:
        held = [number for number, each in enumerate(compared) if metric in each[3]]
        p_values = holm([compared[number][3][metric].p_value for number in held])
        for number, p_value in zip(held, p_values, strict=True):
            adjusted[number][metric] = p_value
    return [Claim(*each, p) for each, p in zip(compared, adjusted, strict=True)]


def _differences(table: Table, one: TableRow, other: TableRow) -> dict[str, PairedDifference]:
    held = one.resampled.values.keys() & other.resampled.values.keys()
    found = {
        name: difference(one.resampled, other.resampled, name)
        for name in table.endpoint
        if name in held
    }
    # A likelihood of zero for both has no difference, and no p-value.
    return {name: each for name, each in found.items() if each.p_value == each.p_value}


def claims_page(table: Table, found: Sequence[Claim]) -> Iterator[str]:
    """Lines: what was asked beforehand, and the answers; none if nothing was."""
    if not found:
        return
    first, *others = (head(metric) for metric in table.endpoint)
    yield "## Comparisons settled beforehand"
    yield ""
    yield (
        f"Primary endpoint: {first}{''.join(f', then {each}' for each in others)}, after a "
        f"temperature fitted on the calibration split. p: Holm's, over the {len(found)} "
        "comparisons of this table by the same metric. Every other difference on this page, "
        "starred or not, is exploratory."
    )
    yield ""
    columns = [text for each in table.endpoint for text in (f"Δ {head(each)}", "p")]
    yield line(["", "on", *columns])
    yield line([":---", ":---", *["---:"] * len(columns)])
    for claim in found:
        cells = [text for metric in table.endpoint for text in _cells(claim, metric)]
        names = f"{row_label(claim.one)} - {row_label(claim.other)}"
        yield line([names, claim.group.short_title, *cells])
    yield ""


def _cells(claim: Claim, metric: str) -> tuple[str, str]:
    """Difference with its interval, and p; bold where p is below 5 %."""
    if metric not in claim.found:
        return MISSING, MISSING
    p_value = claim.adjusted[metric]
    text = difference_text(claim.found[metric], metric, starred=False)
    shown = f"{p_value:.3f}"
    return text, f"**{shown}**" if p_value < 0.05 else shown
