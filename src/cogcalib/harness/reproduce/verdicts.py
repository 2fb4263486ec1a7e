"""Verdicts on the rows of a table: which are trustworthy, and whether fine-tuning paid at all."""

from __future__ import annotations

from collections.abc import Iterator

from cogcalib.harness.config.methods import label, split_posthoc
from cogcalib.harness.report.verdict import Verdict, verdict_on
from cogcalib.harness.report.verdict_words import beside_base, metric_name, paid, rival
from cogcalib.harness.reproduce.table_rows import RowGroup, TableRow

RIVALS = ("sft+ts", "sft+platt")


def verdict_of(group: RowGroup, row: TableRow | None, against: str) -> Verdict | None:
    """The verdict on a row against another of its group; None where one is not there."""
    other = group.find(against)
    if row is None or other is None or row is other:
        return None
    return verdict_on(row.method, row.resampled, other.method, other.resampled)


def trust_text(group: RowGroup, row: TableRow) -> str:
    """``yes``, or ``no:`` and why not: the metrics that fail against SFT, or that all are equal."""
    verdict = verdict_of(group, row, "sft")
    if verdict is None:
        return ""
    if verdict.equal:
        return f"no: equal to {label(verdict.against)}"
    failing = ", ".join(map(metric_name, verdict.failing))
    return f"no: {failing}" if failing else "yes"


def verdict_lines(group: RowGroup) -> Iterator[str]:
    """Lines: whether fine-tuning paid, and what the chosen rows gain over base and rivals."""
    sentences = [paid(verdict_of(group, group.find("sft"), "base"))]
    chosen = {row.method: row for row in group.rows if row.chosen}
    for row in chosen.values():
        if not split_posthoc(row.name)[1]:
            sentences.append(beside_base(verdict_of(group, row, "base")))
            sentences += [rival(verdict_of(group, row, name)) for name in RIVALS]
    said = [sentence for sentence in sentences if sentence]
    if said:
        yield " ".join(said)
        yield ""
