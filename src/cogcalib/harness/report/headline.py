"""The findings in sentences, whichever way they come out."""

from __future__ import annotations

from cogcalib.harness.config.methods import Method, label
from cogcalib.harness.report.columns import percent
from cogcalib.harness.report.resampled import ROUNDING
from cogcalib.harness.report.run_results import Run
from cogcalib.harness.report.singled_out import SingledOut, single_out
from cogcalib.harness.report.summary import MethodSummary, Statistic, TaskSummary
from cogcalib.harness.report.verdict import Judge
from cogcalib.harness.report.verdict_words import (
    UNJUDGED,
    beside_base,
    case,
    idle,
    judged,
    paid,
    rival,
    too_few,
    trust,
)

SAME_ACCURACY = 0.01
"""Accuracies closer than one percentage point are reported side by side, not as rise or fall."""


def headline(run: Run, task: TaskSummary) -> list[str]:
    """The finding on one task: first the verdict, then the figures and what qualifies it.

    The CogCalib variant of `single_out`, chosen on the calibration split, is compared with plain
    fine-tuning on the test split. Where none can be chosen, that is said, with the lowest ECE.

    Args:
        run: Its calibration rows choose, its predictions give the intervals.
        task: The in-domain test figures.
    """
    choice, judge = single_out(run, task), Judge(run, task)
    if choice.method is None or "sft" not in task or not task.ece("sft").values:
        reason = choice.reason if choice.method is None else "SFT has no ECE on this split"
        none = f"No CogCalib variant is singled out: {reason}."
        return [_lowest(task), _measured(task), none, *_idle(task, judge)]
    best = choice.method
    verdict, paid_off = judge.compare(best), judge.compare("sft", "base")
    rivals = [judge.compare(best, name) for name in ("sft+ts", "sft+platt")]
    lead = [UNJUDGED if verdict is None else f"{trust(verdict)} {case(paid_off, rivals)}".strip()]
    sentences = [*lead, _comparison(task, best), _measured(task), _chosen(choice, task)]
    sentences += [] if verdict is None else [judged(verdict)]
    sentences += [*map(rival, rivals), paid(paid_off), beside_base(judge.compare(best, "base"))]
    sentences += [*_idle(task, judge, but=best), _uniform(task, best)]
    sentences.append(too_few(task.n))
    return [sentence for sentence in sentences if sentence]


def _shown(statistic: Statistic) -> float:
    """The mean in percent at the precision shown, so that words and digits cannot disagree."""
    return round(100 * (statistic.mean or 0.0), 1)


def _pct(statistic: Statistic) -> str:
    # A no-break space, lest a line begin with the sign.
    return f"{percent(statistic.mean)}\N{NO-BREAK SPACE}%"


def _measured(task: TaskSummary) -> str:
    return f"ECE in these sentences: {task.ece_label}."


def _lowest(task: TaskSummary) -> str:
    ranked = [row for row in task.methods if task.ece(row.method).values]
    if not ranked:
        return f"No method has a finite ECE on {task.task}."
    row = min(ranked, key=lambda each: task.ece(each.method).mean or 0.0)
    return (
        f"{label(row.method)} has the lowest ECE on {task.task}: "
        f"{_pct(task.ece(row.method))} at accuracy {_pct(row.accuracy)}."
    )


def _comparison(task: TaskSummary, best: str) -> str:
    new, old = task.ece(best), task.ece("sft")
    if _shown(new) < _shown(old):
        change = f"lowers ECE from {_pct(old)} to {_pct(new)}"
    elif _shown(new) > _shown(old):
        change = f"does not help here: ECE rises from {_pct(old)} to {_pct(new)}"
    else:
        change = f"leaves ECE at {_pct(new)}"
    return f"{label(best)} {change} {_accuracy(task, best)}."


def _accuracy(task: TaskSummary, best: str) -> str:
    new, old = task[best].accuracy, task["sft"].accuracy
    difference = (new.mean or 0.0) - (old.mean or 0.0)
    if abs(difference) < SAME_ACCURACY:
        return f"at accuracy {_pct(new)} (SFT {_pct(old)})"
    direction = "rises" if difference > 0 else "falls"
    return f"while accuracy {direction} from {_pct(old)} to {_pct(new)}"


def _chosen(choice: SingledOut, task: TaskSummary) -> str:
    name = label(choice.method or "")
    if choice.candidates == 1:
        return f"{name} is the only CogCalib variant of this run."
    several = "; means over seeds" * (len(task[choice.method or ""].seeds) > 1)
    return (
        f"On the calibration split {name} was chosen out of {choice.candidates} variants: "
        f"{choice.reason}{several}."
    )


def _uniform(task: TaskSummary, best: str) -> str:
    """The penalties without a gate, beside the chosen variant; empty if none was run."""
    shown = []
    for name in (row.method for row in task.methods):
        if Method.read(name).is_uniform and task.ece(name).values:
            lower = _shown(task.ece(name)) < _shown(task.ece(best))
            shown.append(
                f"{label(name)} {_pct(task.ece(name))} at accuracy "
                f"{_pct(task[name].accuracy)}{f' (below {label(best)})' * lower}"
            )
    listed = ", ".join(shown)
    said = f"For comparison, penalties on every example, without a gate: ECE {listed}."
    return said if shown else ""


def _idle(task: TaskSummary, judge: Judge, *, but: str = "") -> list[str]:
    """A sentence for each penalty that left no trace, beside the method already told of."""
    found = []
    for row in task.methods:
        method = Method.read(row.method)
        penalised = method.penalty is not None and method.posthoc is None
        # The figures are at hand, so that only what looks equal is resampled.
        if penalised and row.method != but and "sft" in task and _coincide(row, task["sft"]):
            verdict = judge.compare(row.method)
            found += [idle(verdict)] if verdict is not None and verdict.equal else []
    return found


def _coincide(one: MethodSummary, other: MethodSummary) -> bool:
    """Whether accuracy, NLL and Brier score are the same for every seed."""
    if one.seeds != other.seeds:
        return False
    pairs = [(each.accuracy, each.nll, each.brier) for each in (one, other)]
    return all(
        len(a.values) == len(b.values)
        and all(abs(x - y) < ROUNDING for x, y in zip(a.values, b.values, strict=True))
        for a, b in zip(*pairs, strict=True)
    )
