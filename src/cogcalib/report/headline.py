"""What the numbers say, in sentences, whichever way they come out."""

from __future__ import annotations

from cogcalib.report import methods
from cogcalib.report.columns import percent
from cogcalib.report.summary import Statistic, TaskSummary

SAME_ACCURACY = 0.01
"""Accuracies closer than one percentage point are reported side by side, not as rise or fall."""


def headline(task: TaskSummary) -> list[str]:
    """The finding on one task: first the comparison, then what qualifies it.

    The CogCalib method with the lowest primary ECE is compared with plain fine-tuning. Without
    either, the method with the lowest ECE is named.
    """
    measured = [name for name in methods.COGCALIB if name in task and task.ece(name).values]
    if not measured or "sft" not in task or not task.ece("sft").values:
        return [_lowest(task)]
    best = min(measured, key=lambda name: task.ece(name).mean or 0.0)
    sentences = [_comparison(task, best), _certainty(task, best, "sft")]
    if "sft+ts" in task and task.ece("sft+ts").values:
        sentences.append(_temperature(task, best))
    if len(measured) > 1:
        names = ", ".join(methods.label(name) for name in measured)
        sentences.append(
            f"{methods.label(best)} is the best of {names} on this very split, "
            "so its figure is slightly flattered."
        )
    if task.small_n:
        sentences.append(f"Only {task.n:,} questions: too few to rely on a binned ECE.")
    return sentences


def _shown(statistic: Statistic) -> float:
    """The mean in percent at the precision shown, so that words and digits cannot disagree."""
    return round(100 * (statistic.mean or 0.0), 1)


def _pct(statistic: Statistic) -> str:
    # A no-break space, lest a line begin with the sign.
    return f"{percent(statistic.mean)}\N{NO-BREAK SPACE}%"


def _lowest(task: TaskSummary) -> str:
    ranked = [row for row in task.methods if task.ece(row.method).values]
    if not ranked:
        return f"No method has a finite ECE on {task.task}."
    row = min(ranked, key=lambda each: task.ece(each.method).mean or 0.0)
    return (
        f"{methods.label(row.method)} has the lowest ECE on {task.task}: "
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
    return f"{methods.label(best)} {change} {_accuracy(task, best)}."


def _accuracy(task: TaskSummary, best: str) -> str:
    new, old = task[best].accuracy, task["sft"].accuracy
    difference = (new.mean or 0.0) - (old.mean or 0.0)
    if abs(difference) < SAME_ACCURACY:
        return f"at accuracy {_pct(new)} (SFT {_pct(old)})"
    direction = "rises" if difference > 0 else "falls"
    return f"while accuracy {direction} from {_pct(old)} to {_pct(new)}"


def _certainty(task: TaskSummary, one: str, other: str) -> str:
    """Whether the ECEs are apart: by intervals with one seed, seed by seed with several."""
    a, b = task[one], task[other]
    first, second = task.ece(one), task.ece(other)
    if len(a.seeds) > 1 and a.seeds == b.seeds and len(first.values) == len(second.values):
        lower = sum(x < y for x, y in zip(first.values, second.values, strict=True))
        return f"Its ECE is lower than that of SFT in {lower} of {len(a.seeds)} seeds."
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return "One of the two has no interval, so how sure this is remains open."
    if first.low <= second.high and second.low <= first.high:
        return "The 95 % intervals overlap, so this run alone does not settle the difference."
    return "The 95 % intervals do not overlap."


def _temperature(task: TaskSummary, best: str) -> str:
    new, scaled = task.ece(best), task.ece("sft+ts")
    name = methods.label(best)
    if _shown(scaled) < _shown(new):
        return f"Plain temperature scaling of SFT does better still: {_pct(scaled)}."
    if _shown(scaled) > _shown(new):
        return f"Temperature scaling of SFT reaches {_pct(scaled)}, above {name}."
    return f"Temperature scaling of SFT does equally well: {_pct(scaled)}."
