"""Verdicts on the rows of a table: which are trustworthy, whether fine-tuning paid, open gates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cogcalib.harness.config import Method
from cogcalib.harness.config.methods import label, split_posthoc
from cogcalib.harness.report.columns import SATURATED
from cogcalib.harness.report.verdict import Verdict, verdict_on
from cogcalib.harness.report.verdict_words import beside_base, metric_name, paid, rival
from cogcalib.harness.reproduce.table_rows import RowGroup, TableRow

RIVALS = ("sft+ts", "sft+platt")
OPEN_WITH_KNOWN = ("nll", "random", "soft", "prior")
"""Gates that are open for as many examples as are known; `oracle` goes by labels made before."""


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


def open_gates(groups: Sequence[RowGroup]) -> str:
    """The methods whose last gated epoch was above `SATURATED` known, a sentence or two, or none.

    What was trained is named once, whatever its confidence was mapped by afterwards.
    """
    trained = [group for group in groups if group.in_domain]
    named: dict[str, None] = {}
    for group in trained:
        where = f"{group.short_title}: " if len(trained) > 1 else ""
        for row in group.rows:
            method, last = Method.read(row.method), row.mean("known_last_epoch")
            if method.gate in OPEN_WITH_KNOWN and last is not None and last > SATURATED:
                named[f"{where}{label(method.trained)} ({100 * last:.3g} %)"] = None
    if not named:
        return ""
    return (
        f"Above {100 * SATURATED:.0f} % known: {', '.join(named)}. There the gate is open for "
        "nearly every example, and the method is its ungated twin."
    )
