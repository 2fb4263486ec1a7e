"""Which CogCalib variant a report speaks of: chosen on the calibration split, never on the test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cogcalib.report import methods
from cogcalib.report.summary import TaskSummary, group_rows

ACCURACY_LOSS = 0.01
"""A variant may be this much less accurate than SFT on the calibration split, a fraction."""

RULE = (
    "lowest calibration ECE among the CogCalib variants whose calibration accuracy is at most one "
    "point below that of SFT"
)
"""How the variant is chosen, in words."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The outcome of the selection.

    Attributes:
        method: The chosen variant; None if there was nothing to choose from.
        candidates: The variants compared, in canonical order.
        reason: Why none was chosen, a clause; empty if one was.
    """

    method: str | None
    candidates: tuple[str, ...] = ()
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
    # Shares of whole questions: the tolerance only absorbs rounding of the difference.
    least = tuned["sft"].accuracy.mean - ACCURACY_LOSS - 1e-9
    accurate = [name for name in errors if (tuned[name].accuracy.mean or 0.0) >= least]
    if not accurate:
        return Choice(
            None,
            tuple(errors),
            "every CogCalib variant is more than one point less accurate than SFT on the "
            "calibration split",
        )
    return Choice(min(accurate, key=errors.__getitem__), tuple(errors))
