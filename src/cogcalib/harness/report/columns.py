"""The columns of a metrics table as text, shared by terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cogcalib.harness.config.methods import Method, label
from cogcalib.harness.report.summary import MethodSummary, Statistic, TaskSummary
from cogcalib.scoring import MULTIPLE_CHOICE, OPEN_ENDED
from cogcalib.scoring.metrics_row import WANTED

MISSING = "–"  # noqa: RUF001 - a typographic dash is meant
SATURATED = 0.95
"""A gate that calls a larger share of the training examples known is warned of; fraction."""


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


def columns(task: TaskSummary) -> list[Column]:
    """The columns of one task's wide table, after the method's name."""
    return [*calibration_columns(task, wide=True), *use_columns(task)]


def calibration_columns(
    task: TaskSummary, *, wide: bool = False, definition: str | None = None
) -> list[Column]:
    """Accuracy, calibration errors with their noise floors, and scores.

    Args:
        task: The task.
        wide: Show every confidence definition, and the AUROC with its interval. Otherwise the
            floor of the first definition and the error of the second, so that a terminal has room.
        definition: The one that comes first, with interval and floor; the primary one if None, and
            then the floors of all stand in a wide table.
    """
    primary = definition or task.primary
    result = [Column("n", "", lambda row: f"{row.n:,}")] if task.several_n else []
    result += [
        Column("Accuracy %", "", lambda row: as_percent(row.accuracy)),
        Column(
            "ECE %",
            primary,
            lambda row: as_percent(row.ece[primary]),
            primary=primary == task.primary,
        ),
        *_floor(task, primary),
    ]
    others = [each for each in task.definitions if each != primary]
    for each in others[: None if wide else 1]:
        floors = wide and definition is None
        result += [_other_ece(each), *(_floor(task, each) if floors else ())]
    result += [
        Column("NLL", "", _own_nll),
        Column("Brier", "", lambda row: as_number(row.brier, 3)),
    ]
    if wide:
        result.append(Column("AUROC", "", lambda row: _auroc(row, primary)))
    return result


def use_columns(task: TaskSummary) -> list[Column]:
    """AURC, what can be answered at an accuracy and from which confidence on, what was known."""
    result: list[Column] = []
    if any(row.aurc.values for row in task.methods):
        result.append(Column("AURC", "", lambda row: as_number(row.aurc, 3)))
    result += [
        Column(
            "Answered %",
            f"at {accuracy:.0%} accuracy (from confidence %)",
            lambda row, name=name: coverage_text(  # type: ignore[misc]
                row.coverage[name].mean, row.threshold[name].mean
            ),
        )
        for name, accuracy in WANTED.items()
        if any(row.coverage[name].values for row in task.methods)
    ]
    if any(is_gated(row.method) for row in task.methods):
        result.append(Column("Known %", "", _known))
    return result


def _known(row: MethodSummary) -> str:
    return known_text(row.method, row.known_first_epoch.mean, row.known_last_epoch.mean)


def _other_ece(definition: str) -> Column:
    return Column("ECE %", definition, lambda row: as_percent(row.ece[definition], interval=False))


def _floor(task: TaskSummary, definition: str) -> list[Column]:
    """The noise floor of an ECE; no column if nobody computed one."""
    if not any(row.floor[definition] for row in task.methods):
        return []
    return [Column("floor", "", lambda row: floor_text(row.floor[definition]))]


def floor_text(floor: Sequence[float] | None) -> str:
    """``2.0–5.1``, in percent."""  # noqa: RUF002
    return MISSING if floor is None else "–".join(percent(end) for end in floor)  # noqa: RUF001


def _auroc(row: MethodSummary, definition: str) -> str:
    return as_number(row.auroc[definition], 2, interval=True)


def coverage_text(share: float | None, threshold: float | None) -> str:
    """``41.2 (83.1)``: share answered and the least confidence that is, in percent."""
    return f"{percent(share)} ({percent(threshold)})" if share else percent(share)


def is_gated(method: str) -> bool:
    """Whether a method applies its penalty to some examples only."""
    return Method.read(method).gate not in ("none", "all")


def known_text(method: str, first: float | None, last: float | None) -> str:
    """``43–99!``: known in the first and the last gated epoch, in percent; ! above `SATURATED`.

    A dash where nothing is gated: what a method without a gate knew says nothing of a gate.
    """  # noqa: RUF002
    if not is_gated(method) or (first is None and last is None):
        return MISSING
    shown = [MISSING if end is None else f"{100 * end:.0f}" for end in (first, last)]
    return "–".join(shown) + "!" * is_saturated(first, last)  # noqa: RUF001


def is_saturated(first: float | None, last: float | None) -> bool:
    """Whether a gate was open for nearly every example: then it tells nothing apart."""
    return any(end is not None and end > SATURATED for end in (first, last))


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
    """What the columns of a wide table are and how far to trust them, in one paragraph."""
    return f"{calibration_caption(task)} {use_caption(task)}".strip()


def use_caption(task: TaskSummary) -> str:
    """The same of `use_columns`."""
    coverage = any(each.values for row in task.methods for each in row.coverage.values())
    gated = any(is_gated(row.method) for row in task.methods)
    return " ".join(reading_aids(coverage=coverage, gated=gated))


def calibration_caption(task: TaskSummary, definition: str | None = None) -> str:
    """The same of `calibration_columns`."""
    shown = definition or task.primary
    if shown != task.primary:
        told = CONFIDENCE.get(shown, shown)
        return (
            f"ECE in percent: {task.ece_label_of(shown)}; other ECE columns the same of theirs. "
            f"AUROC of {shown} too: {told}. Brier of {task.scored}. [low–high]: 95 % bootstrap "  # noqa: RUF001
            f"interval; ±: standard deviation over seeds. Methods are judged by {task.primary}."
        )
    best = (
        "; lowest in bold" if task.best else "; none is marked, those in the floor are not ranked"
    )
    sentences = [f"ECE in percent: {task.ece_label}{best if len(task.methods) > 1 else ''}."]
    sentences += [f"Brier and AURC: of {task.scored}."] if task.scored != task.primary else []
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
    sentences += reading_aids(floor=any(row.floor[task.primary] for row in task.methods))
    if task.small_n:
        sentences.append(
            f"Small sample (n = {task.n:,} < 500): binned ECE is biased upwards and mostly noise."
        )
    return " ".join(sentences)


def reading_aids(
    *, floor: bool = False, coverage: bool = False, gated: bool = False
) -> Iterator[str]:
    """What a table's figures of these kinds are, a sentence or two each."""
    if floor:
        yield (
            "Floor: 95 % interval of the ECE of a perfectly calibrated model with the same "
            "confidences; two ECEs within their floors are not ranked."
        )
    if coverage:
        yield (
            "Answered: largest share that keeps the accuracy if only answers above a threshold are "
            "given; the threshold is chosen on the same questions, which is optimistic."
        )
    if gated:
        yield (
            "Known: share of the training examples below the gate's threshold in the first and the "
            f"last gated epoch; !: above {SATURATED:.0%} the gate hardly tells examples apart."
        )


def _own_nll(row: MethodSummary) -> str:
    """The NLL; none of a map of the confidence alone, which says nothing of the other options."""
    return MISSING if Method.read(row.method).maps_confidence else as_number(row.nll, 3)


def _nll(task: TaskSummary) -> list[str]:
    """What the NLL column is the likelihood of; nothing for definitions from elsewhere."""
    scaled = any(Method.read(row.method).posthoc == "ts" for row in task.methods)
    if task.primary in MULTIPLE_CHOICE:
        of, suffix = "-log of the correct option's share", "under the temperature of options"
    elif task.primary in OPEN_ENDED:
        of, suffix = "mean of -log p over the answer tokens", "under a temperature of its own"
    else:
        return []
    said = [f"NLL in nats: {of}{f' (+ TS: {suffix})' if scaled else ''}."]
    if any(_own_nll(row) == MISSING for row in task.methods):
        said.append(f"{MISSING}: a method has none of its own, or an answer had no probability.")
    return said


def name(row: MethodSummary) -> str:
    """The method's printed name."""
    return label(row.method)
