"""The CogCalib variant that a report singles out: chosen on the calibration split."""

from __future__ import annotations

from dataclasses import dataclass

from cogcalib.harness.config import DEFAULT_RULE, Method, Rule
from cogcalib.harness.report.run_results import Run
from cogcalib.harness.report.summary import TaskSummary
from cogcalib.harness.selection import RULES, select, trials_of_rows


@dataclass(frozen=True, slots=True)
class SingledOut:
    """The outcome.

    Attributes:
        method: The chosen variant; None if there was nothing to choose from.
        candidates: How many variants were compared.
        reason: Why it was chosen, a noun phrase; or why none was, a clause.
    """

    method: str | None
    candidates: int
    reason: str


def single_out(run: Run, task: TaskSummary) -> SingledOut:
    """The CogCalib variant to report on a task, by the rule of the run's configuration.

    It is the rule of `cogcalib.harness.selection` that ``tune`` chose by, where the run was tuned;
    accuracy, NLL and primary ECE are means over seeds. Variants with a temperature are no
    candidates: it is fitted on the calibration split, which flatters their ECE there.

    Args:
        run: Its calibration rows choose.
        task: The test figures; only methods that have an ECE there are candidates.
    """
    rows = [row for row in run.rows if row["task"] == task.task and row["split"] == "calibration"]
    if not rows:
        return SingledOut(None, 0, "metrics.json has no row of its calibration split")
    trials = trials_of_rows(rows)
    if not any(trial.method == "sft" for trial in trials):
        return SingledOut(None, 0, "SFT has no accuracy on the calibration split")
    lacking = {trial.method for trial in trials if task.primary not in trial.ece}
    # In the order of the run, so that of equals the first is the same as in a tuning.
    names = [
        name
        for name in dict.fromkeys(trial.method for trial in trials)
        if Method.read(name).is_cogcalib_variant
        and name not in lacking
        and name in task
        and task.ece(name).values
    ]
    if not names:
        return SingledOut(None, 0, "no CogCalib variant has an ECE on both splits")
    chosen = select(names, trials, _rule(run))
    return SingledOut(chosen.chosen, len(names), chosen.reason)


def _rule(run: Run) -> Rule:
    """That of the run's configuration; of runs older than the key the default."""
    held = (run.config.get("report") or {}).get("rule")
    return next((rule for rule in RULES if rule == held), DEFAULT_RULE)
