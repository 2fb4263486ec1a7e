"""Verdicts in sentences, the same in headlines, pages and tables."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from cogcalib.harness.config.methods import label
from cogcalib.harness.report.resampled import is_equal
from cogcalib.harness.report.verdict import Verdict
from cogcalib.metrics import SMALL_N

PAIRED = "Differences are paired question by question, with 95 % intervals."

_METRICS = {"accuracy": "accuracy", "brier": "Brier score", "nll": "NLL", "aurc": "AURC"}


UNJUDGED = (
    "No verdict on trust: the run does not have both methods' predictions on the same questions, "
    "so that these are figures only, without significance."
)


def trust(verdict: Verdict) -> str:
    """Whether the method meets the definition of `cogcalib.harness.report.verdict`."""
    name, other = label(verdict.method), label(verdict.against)
    if verdict.equal:
        return idle(verdict)
    if verdict.trustworthy:
        errors = ", ".join(change(verdict, f"ece.{each}") for each in verdict.errors)
        *others, last = (_METRICS[each] for each in verdict.ranked)
        listed = f"{', '.join(others)} and {last} are" if others else f"{last} is"
        return (
            f"{name} is trustworthy against {other}: ECE falls under every confidence definition "
            f"({errors}), and {listed} not worse."
        )
    reasons = ", ".join(change(verdict, each) for each in verdict.failing)
    return f"{name} is not trustworthy against {other}: {reasons}."


def too_few(questions: int) -> str:
    """That a test has few questions; empty if it has enough."""
    if questions >= SMALL_N:
        return ""
    asked = "1 question" if questions == 1 else f"{questions:,} questions"
    return f"Only {asked}: too few to rely on a binned ECE."


def idle(verdict: Verdict) -> str:
    """That a penalty left no trace, where the method answers as plain fine-tuning does."""
    return f"{alike(verdict)}: its penalty did not act."


def alike(verdict: Verdict) -> str:
    """The clause that says of two that they answer alike."""
    other = "the base model" if verdict.against == "base" else label(verdict.against)
    return f"{label(verdict.method)} answers exactly as {other} does (all predictions are equal)"


def judged(verdict: Verdict) -> str:
    """Every difference that the verdict rests on, beside those that `trust` names."""
    if verdict.equal:
        return PAIRED
    said = set(verdict.failing)
    if verdict.trustworthy:
        said = {f"ece.{each}" for each in verdict.errors}
    rest = [change(verdict, name) for name in verdict.differences if name not in said]
    return f"Also part of the verdict: {', '.join(rest)}. {PAIRED}" if rest else PAIRED


def case(sft: Verdict | None, rivals: Sequence[Verdict | None]) -> str:
    """The case the user is in: what fine-tuning did to confidence, and whether scaling suffices.

    Args:
        sft: SFT against the base model; None if that was not scored.
        rivals: The method against SFT with a map fitted afterwards, where such were run.
    """
    parts = [] if sft is None else [_fine_tuned(sft)]
    found = [each for each in rivals if each is not None]
    if even := [label(each.against) for each in found if not _better(each)]:
        parts.append(f"scaling afterwards is as good ({' and '.join(even)})")
    elif found:
        behind = (f"{label(each.against)} in {_listed(_better(each))}" for each in found)
        parts.append(f"scaling afterwards is not as good ({', '.join(behind)})")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _fine_tuned(sft: Verdict) -> str:
    """What fine-tuning did to calibration, by the primary confidence unless another shows harm."""
    if sft.equal:
        return "Fine-tuning changed nothing here"
    harmed = [name for name, each in sft.errors.items() if each.low > 0]
    shown = next(iter(harmed or sft.errors))
    return (
        f"Fine-tuning {'harmed' if harmed else 'did not harm'} calibration here, against the "
        f"base model {change(sft, f'ece.{shown}')} and {change(sft, 'accuracy')}"
    )


def _better(verdict: Verdict) -> list[str]:
    return [each for each in verdict.ranked if verdict.is_better(each)]


def rival(verdict: Verdict | None) -> str:
    """What the method gains over a map fitted after plain fine-tuning; empty if none was run."""
    if verdict is None:
        return ""
    if verdict.equal:
        return f"{label(verdict.against)} is as good: {alike(verdict)}."
    ranked = verdict.ranked
    better = [change(verdict, each) for each in ranked if verdict.is_better(each)]
    worse = [change(verdict, each) for each in ranked if verdict.is_worse(each)]
    name, other = label(verdict.method), label(verdict.against)
    if not better:
        tail = f"; {name} is worse in {', '.join(worse)}" if worse else ""
        names = " and ".join(_METRICS[each] for each in ranked)
        return f"{other} is as good: {name} is not better in {names}{tail}."
    tail = f", and worse in {', '.join(worse)}" if worse else ""
    return f"Against {other}, {name} is better in {', '.join(better)}{tail}."


def paid(verdict: Verdict | None) -> str:
    """Whether fine-tuning paid at all: SFT against the base model; empty if that was not scored."""
    if verdict is None:
        return ""
    if verdict.equal:
        return f"Fine-tuning itself did not pay: {alike(verdict)}."
    result = "paid" if verdict.paid else "did not pay"
    if verdict.paid is None:
        found = (("better", verdict.improved), ("worse", verdict.worsened))
        parts = [f"{word} in {_listed(names)}" for word, names in found if names]
        result = f"paid in part, {', '.join(parts)}"
    return f"Fine-tuning itself {result}: SFT against the base model, {_beside(verdict)}."


def beside_base(verdict: Verdict | None) -> str:
    """A method against the base model; empty if that was not scored."""
    if verdict is None:
        return ""
    if verdict.equal:
        return f"{alike(verdict)}."
    return f"{label(verdict.method)} against the base model: {_beside(verdict)}."


def _beside(verdict: Verdict) -> str:
    return ", ".join(change(verdict, name) for name in ("accuracy", *verdict.ranked))


def _listed(metrics: Sequence[str]) -> str:
    """``NLL, AURC and accuracy``."""
    *others, last = map(metric_name, metrics)
    return f"{', '.join(others)} and {last}" if others else last


def change(verdict: Verdict, metric: str) -> str:
    """A difference with its interval, such as ``AURC +0.012 [+0.004 to +0.020]``, or ``equal``."""
    if is_equal(verdict.differences[metric]):
        return f"{metric_name(metric)} equal"
    if isnan(verdict.differences[metric].difference):
        return f"{metric_name(metric)} undefined"
    each, points = verdict.differences[metric], metric == "accuracy" or metric.startswith("ece.")
    show = _points if points else _three
    unit = " points" if points else ""
    shown = f"{show(each.difference)} [{show(each.low)} to {show(each.high)}]{unit}"
    return f"{metric_name(metric)} {shown}"


def metric_name(metric: str) -> str:
    """``Brier score``, ``ECE options``."""
    return _METRICS.get(metric) or f"ECE {metric.removeprefix('ece.')}"


def _three(value: float) -> str:
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", "\N{MINUS SIGN}")


def _points(fraction: float) -> str:
    """A signed fraction in percentage points."""
    # Adding zero turns a rounded -0.0 into 0.0.
    return f"{round(100 * fraction, 1) + 0.0:+.1f}".replace("-", "\N{MINUS SIGN}")
