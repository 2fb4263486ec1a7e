"""The findings in sentences, whichever way they come out."""

from __future__ import annotations

from cogcalib.harness.config.methods import Method, label
from cogcalib.harness.report.columns import percent
from cogcalib.harness.report.run_results import Run
from cogcalib.harness.report.singled_out import SingledOut, single_out
from cogcalib.harness.report.summary import Statistic, TaskSummary
from cogcalib.harness.report.verdict import RANKED, Judge, Verdict

SAME_ACCURACY = 0.01
"""Accuracies closer than one percentage point are reported side by side, not as rise or fall."""


def headline(run: Run, task: TaskSummary) -> list[str]:
    """The finding on one task: first the comparison, then what qualifies it.

    The CogCalib variant of `single_out`, chosen on the calibration split, is compared with plain
    fine-tuning on the test split. Where none can be chosen, that is said, with the lowest ECE.

    Args:
        run: Its calibration rows choose, its predictions give the intervals.
        task: The in-domain test figures.
    """
    choice = single_out(run, task)
    if choice.method is None or "sft" not in task or not task.ece("sft").values:
        reason = choice.reason if choice.method is None else "SFT has no ECE on this split"
        return [_lowest(task), _measured(task), f"No CogCalib variant is singled out: {reason}."]
    best = choice.method
    sentences = [_comparison(task, best), _measured(task), _chosen(choice)]
    judge = Judge(run, task)
    sentences.append(_trust(judge, best))
    sentences += [_rival(judge, best, name) for name in ("sft+ts", "sft+platt")]
    sentences += [_base(judge), _uniform(task, best)]
    if task.small_n:
        sentences.append(f"Only {task.n:,} questions: too few to rely on a binned ECE.")
    return [sentence for sentence in sentences if sentence]


def in_short(run: Run, task: TaskSummary) -> list[str]:
    """The first sentences of `headline`, which need no bootstrap, and the method of lowest ECE.

    Args:
        run: As of `headline`.
        task: As of `headline`.
    """
    best = single_out(run, task).method
    if best is None or "sft" not in task or not task.ece("sft").values:
        return [_lowest(task)]
    return [_comparison(task, best), _lowest(task)]


def _shown(statistic: Statistic) -> float:
    """The mean in percent at the precision shown, so that words and digits cannot disagree."""
    return round(100 * (statistic.mean or 0.0), 1)


def _pct(statistic: Statistic) -> str:
    # A no-break space, lest a line begin with the sign.
    return f"{percent(statistic.mean)}\N{NO-BREAK SPACE}%"


def _measured(task: TaskSummary) -> str:
    return f"Every ECE here: {task.ece_label}."


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


def _chosen(choice: SingledOut) -> str:
    name = label(choice.method or "")
    if choice.candidates == 1:
        return f"{name} is the only CogCalib variant of this run."
    return (
        f"{name} was chosen out of {choice.candidates} variants on the calibration split: "
        f"{choice.reason}; means over seeds."
    )


def _trust(judge: Judge, best: str) -> str:
    """Whether the variant meets the definition of `cogcalib.harness.report.verdict`."""
    verdict = judge.compare(best)
    if verdict is None:
        return (
            "These are figures only: without both methods' predictions on the same questions, "
            "nothing is said about significance."
        )
    name = label(best)
    if verdict.trustworthy:
        errors = ", ".join(_change(verdict, f"ece.{each}") for each in verdict.errors)
        others = ", ".join(_change(verdict, each) for each in RANKED if each in verdict.differences)
        return (
            f"{name} is trustworthy against SFT: ECE falls under every confidence definition "
            f"({errors}), and {others} {'are' if ',' in others else 'is'} not worse. {PAIRED}"
        )
    reasons = ", ".join(_change(verdict, each) for each in verdict.failing)
    return f"{name} is not trustworthy against SFT: {reasons}. {PAIRED}"


def _rival(judge: Judge, best: str, rival: str) -> str:
    """What the variant gains over a map fitted after plain fine-tuning; empty if none was run."""
    verdict = judge.compare(best, rival)
    if verdict is None:
        return ""
    ranked = [each for each in RANKED if each in verdict.differences]
    better = [_change(verdict, each) for each in ranked if verdict.is_better(each)]
    worse = [_change(verdict, each) for each in ranked if verdict.is_worse(each)]
    name, other = label(best), label(rival)
    if not better:
        tail = f"; {name} is worse in {', '.join(worse)}" if worse else ""
        names = " and ".join(_METRICS[each] for each in ranked)
        return f"{other} is as good: {name} is not better in {names}{tail}."
    tail = f", and worse in {', '.join(worse)}" if worse else ""
    return f"Against {other}, {name} is better in {', '.join(better)}{tail}."


def _base(judge: Judge) -> str:
    """Whether fine-tuning paid at all; empty if the base model was not scored."""
    verdict = judge.compare("sft", "base")
    if verdict is None:
        return ""
    accuracy = verdict.differences["accuracy"]
    paid = "paid" if accuracy.low > 0 else "did not pay"
    return f"Fine-tuning itself {paid}: SFT against the base model, {_change(verdict, 'accuracy')}."


PAIRED = "Differences are paired by question and seed, with 95 % intervals."

_METRICS = {"accuracy": "accuracy", "brier": "Brier score", "nll": "NLL", "aurc": "AURC"}


def _change(verdict: Verdict, metric: str) -> str:
    """A difference with its interval, such as ``AURC +0.012 [+0.004 to +0.020]``."""
    each, points = verdict.differences[metric], metric == "accuracy" or metric.startswith("ece.")
    name = _METRICS.get(metric) or f"ECE {metric.removeprefix('ece.')}"
    show = _points if points else _three
    unit = " points" if points else ""
    return f"{name} {show(each.difference)} [{show(each.low)} to {show(each.high)}]{unit}"


def _three(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", "\N{MINUS SIGN}")


def _points(fraction: float) -> str:
    """A signed fraction in percentage points."""
    # Adding zero turns a rounded -0.0 into 0.0.
    return f"{round(100 * fraction, 1) + 0.0:+.1f}".replace("-", "\N{MINUS SIGN}")


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
    return f"Penalties on every example, without a gate: {', '.join(shown)}." if shown else ""
