"""Which CogCalib variant a report speaks of: chosen on the calibration split, never on the test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cogcalib.harness.report import methods
from cogcalib.harness.report.summary import TaskSummary, group_rows

ENOUGH = 0.5
"""A variant is good enough if its calibration ECE is at most this share of SFT's."""

RULE = "the most accurate on the calibration split of the variants that at least halve SFT's ECE"
"""How the variant is chosen, in words. Accuracy decides: trust is not to be paid for with it."""

FALLBACK = "none halves SFT's ECE on the calibration split, so the one with the lowest ECE there"
"""What is done where no variant is good enough."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The outcome of the selection.

    Attributes:
        method: The chosen variant; None if there was nothing to choose from.
        candidates: The variants compared, in canonical order.
        rule: How it was chosen, a noun phrase; empty if none was.
        reason: Why none was chosen, a clause; empty if one was.
    """

    method: str | None
    candidates: tuple[str, ...] = ()
    rule: str = ""
    reason: str = ""


def is_variant(method: str) -> bool:
    """Whether a method is CogCalib as it would be used: no control of its gate, no temperature."""
    trained, posthoc, _ = method.partition("+")
    stem, *suffixes = trained.split("-")
    return not posthoc and stem in methods.COGCALIB and set(suffixes) <= {"options"}


def choose(rows: Sequence[Mapping[str, Any]], task: TaskSummary) -> Choice:
    """The CogCalib variant to report on a task, by `RULE`, all figures means over seeds.

    Temperatures are fitted on the calibration split, so variants with one are no candidates: their
    ECE there is flattered.

    Args:
        rows: Rows of ``metrics.json``, those of the calibration split among them.
        task: The test figures; only methods that have an ECE there are candidates.
    """
    calibrated = [row for row in rows if row["split"] == "calibration" and row["task"] == task.task]
    if not calibrated:
        return Choice(None, reason="metrics.json has no row of its calibration split")
    (tuned,) = group_rows(calibrated, split="calibration")
    if "sft" not in tuned or tuned["sft"].accuracy.mean is None:
        return Choice(None, reason="SFT has no accuracy on the calibration split")
    errors = {
        row.method: error
        for row in tuned.methods
        if is_variant(row.method)
        and row.method in task
        and task.ece(row.method).values
        and task.primary in row.ece
        and (error := row.ece[task.primary].mean) is not None
    }
    if not errors:
        return Choice(None, reason="no CogCalib variant has an ECE on both splits")
    reference = tuned["sft"].ece[task.primary].mean if task.primary in tuned["sft"].ece else None
    if reference is None:
        return Choice(None, tuple(errors), reason="SFT has no ECE on the calibration split")
    enough = [name for name in errors if errors[name] <= ENOUGH * reference]
    if not enough:
        return Choice(min(errors, key=errors.__getitem__), tuple(errors), FALLBACK)
    best = max(enough, key=lambda name: (tuned[name].accuracy.mean or 0.0, -errors[name]))
    return Choice(best, tuple(errors), RULE)
