"""The columns of a metrics table as text, shared by terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cogcalib.harness.config.methods import Method, label
from cogcalib.harness.report.summary import MethodSummary, Statistic, TaskSummary
from cogcalib.scoring import MULTIPLE_CHOICE, OPEN_ENDED

MISSING = "–"  # noqa: RUF001 - a typographic dash is meant


@dataclass(frozen=True, slots=True)
class Column:
    """One column: a header of two short lines, and the text of a method's cell.

    Attributes:
        header: What is shown, with its unit.
        detail: Second line of the header; empty if there is none.
        cell: Method summary -> text.
        primary: Whether this is the column the methods are judged by.
    """

    header: str
    detail: str
    cell: Callable[[MethodSummary], str]
    primary: bool = False

    @property
    def title(self) -> str:
        """Header and detail on one line."""
        return f"{self.header} {self.detail}".strip()


def percent(fraction: float | None) -> str:
    """A fraction as percent with one decimal, without the sign."""
    return MISSING if fraction is None else f"{100 * fraction:.1f}"


def as_percent(statistic: Statistic, *, interval: bool = True) -> str:
    """``12.3 [10.1–14.5]`` for one seed, ``12.3 ±0.4`` for several, in percent."""  # noqa: RUF002
    text = percent(statistic.mean)
    if statistic.deviation is not None:
        return f"{text} ±{percent(statistic.deviation)}"
    if interval and statistic.low is not None and statistic.high is not None:
        # No blank inside the brackets, so that a narrow terminal breaks the line before them.
        return f"{text} [{percent(statistic.low)}–{percent(statistic.high)}]"  # noqa: RUF001
    return text


def as_number(statistic: Statistic, digits: int, *, interval: bool = False) -> str:
    """The mean with a fixed number of decimals, and its interval if asked for and known."""
    if statistic.mean is None:
        return MISSING
    text = f"{statistic.mean:.{digits}f}"
    if interval and statistic.low is not None and statistic.high is not None:
        return f"{text} [{statistic.low:.{digits}f}–{statistic.high:.{digits}f}]"  # noqa: RUF001
    return text


def columns(task: TaskSummary, *, wide: bool = False) -> list[Column]:
    """The columns of one task's table, after the method's name.

    Args:
        task: The task.
        wide: Show every confidence definition, and intervals of the AUROC. Otherwise the first two
            definitions, so that the table fits a terminal.
    """
    primary = task.primary
    result = [Column("n", "", lambda row: f"{row.n:,}")] if task.several_n else []
    result += [
        Column("Accuracy %", "", lambda row: as_percent(row.accuracy)),
        Column("ECE %", primary, lambda row: as_percent(row.ece[primary]), primary=True),
    ]
    result += [_other_ece(each) for each in task.definitions[1 : None if wide else 2]]
    result += [
        Column("NLL", "", lambda row: as_number(row.nll, 3)),
        Column("Brier", "", lambda row: as_number(row.brier, 3)),
        Column("AUROC", "", lambda row: as_number(row.auroc[primary], 2, interval=wide)),
    ]
    if any(row.share_known.mean is not None for row in task.methods):
        result.append(Column("Known %", "", lambda row: _whole_percent(row.share_known)))
    return result


def _other_ece(definition: str) -> Column:
    return Column("ECE %", definition, lambda row: as_percent(row.ece[definition], interval=False))


def _whole_percent(statistic: Statistic) -> str:
    return MISSING if statistic.mean is None else f"{100 * statistic.mean:.0f}"


CONFIDENCE = {
    "vocab": "largest probability over the vocabulary",
    "options": "softmax over the answer options",
    "surface": "probability summed over surface forms",
    "mean": "exp of the mean log-probability of the generated answer",
    "joint": "exp of the summed log-probability of the generated answer",
}


def title(task: TaskSummary) -> str:
    """``atlas/country · test · in-domain · n = 1,000``, n left out where methods differ in it."""
    domain = {True: ["in-domain"], False: ["out-of-domain"], None: []}[task.in_domain]
    number = [] if task.several_n else [f"n = {task.n:,}"]
    return " · ".join([task.task, task.split, *domain, *number])


def caption(task: TaskSummary) -> str:
    """What the columns are and how far to trust them, in one paragraph."""
    sentences = [f"ECE in percent: {task.ece_label}; lowest in bold."]
    sentences += [f"{name}: {CONFIDENCE[name]}." for name in (task.primary,) if name in CONFIDENCE]
    if len(task.definitions) > 1:
        sentences.append("Other ECE columns: the same bins, the confidence they are headed with.")
    sentences += _nll(task)
    if any(len(row.seeds) == 1 for row in task.methods):
        sentences.append(
            "[low–high]: 95 % bootstrap interval; it shares the upward bias of a binned ECE "  # noqa: RUF001
            "and may lie above the value."
        )
    if task.several_seeds:
        seeds = max(len(row.seeds) for row in task.methods)
        sentences.append(f"±: standard deviation over {seeds} seeds.")
    if any(row.share_known.mean is not None for row in task.methods):
        sentences.append("Known: share of training examples the gate counted as known.")
    if task.small_n:
        sentences.append(
            f"Small sample (n = {task.n:,} < 500): binned ECE is biased upwards and mostly noise."
        )
    return " ".join(sentences)


def _nll(task: TaskSummary) -> list[str]:
    """What the NLL column is the likelihood of; nothing for definitions from elsewhere."""
    scaled = any(Method.read(row.method).posthoc == "ts" for row in task.methods)
    if task.primary in MULTIPLE_CHOICE:
        suffix = " (+ TS: under the temperature of options)" if scaled else ""
        return [f"NLL in nats: -log of the correct option's share{suffix}."]
    if task.primary in OPEN_ENDED:
        suffix = " (+ TS: under a temperature of its own)" if scaled else ""
        return [f"NLL in nats: mean of -log p over the answer tokens{suffix}."]
    return []


def name(row: MethodSummary) -> str:
    """The method's printed name."""
    return label(row.method)
