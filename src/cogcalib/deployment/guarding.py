"""Guarding: abstention rules with a guarantee, from held-out questions, into `calibration.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cogcalib.deployment.access import ModelAccess
from cogcalib.deployment.calibrated import calibrate
from cogcalib.deployment.calibration_file import (
    AbstentionRule,
    Calibration,
    read_calibration,
    write_calibration,
)
from cogcalib.deployment.card import withdraw_card, write_card
from cogcalib.deployment.held_out import HeldOut, Told, counted, held_out, read_rows
from cogcalib.deployment.identity import check_identity, warn_of_precision
from cogcalib.deployment.opened import (
    FoundModel,
    calibration_folder,
    check_changeable,
    find_model,
    identify_model,
)
from cogcalib.deployment.raw_answers import ask
from cogcalib.deployment.seen_questions import CALIBRATED_ON, carry_seen, read_proven
from cogcalib.drawing.canvas import INK, new_figure, percent_axis, styled
from cogcalib.inference.backend import Backend
from cogcalib.posthoc.risk_control import (
    SelectiveGuarantee,
    check_share,
    control_selective_error,
    error_counts,
    least_answers,
)
from cogcalib.records import InputError, input_errors

BETTER_MODEL = "a model that is more accurate or ranks its answers better"


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What a rule meets on other questions: seen, not promised.

    Attributes:
        target_error: Of the rule.
        coverage: Share of the questions answered.
        error: Among the answered ones; None if none is.
    """

    target_error: float
    coverage: float
    error: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Guarded:
    """What a guard found.

    Attributes:
        folder: Where the calibration lies.
        guarantees: One for each target, in the order asked for.
        rules: The same as written.
        elsewhere: On questions out of domain; empty if none were given.
        confidence, correct: Of the held-out answers, [n].
    """

    folder: Path
    guarantees: tuple[SelectiveGuarantee, ...]
    rules: tuple[AbstentionRule, ...]
    elsewhere: tuple[Elsewhere, ...]
    confidence: NDArray[np.float64]
    correct: NDArray[np.bool_]


def guard(
    model: str | Path,
    data: Path,
    targets: Sequence[float],
    access: ModelAccess,
    *,
    delta: float = 0.1,
    out_of_domain: Path | None = None,
    calibration: Path | None = None,
    output: Path | None = None,
    progress: Told = None,
) -> Guarded:
    """Find the thresholds that keep the error among answered questions, and write them.

    Args:
        model: A calibrated model.
        data: File of held-out questions with their answers, none of which the model was trained on
            or its map was fitted to.
        targets: Largest errors, fractions; the first is in force afterwards.
        access: How the model is asked.
        delta: Probability that a promise fails, a fraction.
        out_of_domain: File of other questions, on which the thresholds are only tried.
        calibration: Folder that has the model's calibration; None: the model's own.
        output: Folder for the calibration with its rules; None: the one that it is read from.
        progress: Told of finished questions of `data`, and of how many there are.

    Raises:
        InputError: If the model, the data or a number cannot be used, before the weights are read.
            Nothing was written then.
    """
    with input_errors():
        check_share("delta", delta)
        for target in targets:
            check_share("target_error", target)
    if not targets or len(set(targets)) < len(targets):
        raise InputError(f"target_error must name different targets, got {list(targets)}")
    saved = find_model(model)
    folder = check_changeable(saved, output or calibration)
    held = calibration or calibration_folder(saved)
    before = read_calibration(held)
    with input_errors():
        found = identify_model(saved, access, before)
    check_identity(before, found.identity, held)
    warn_of_precision(replace(before, rules=()), found.precision)
    questions = _questions(data, found, before, held)
    others = _questions(out_of_domain, found, before, held) if out_of_domain else None
    with input_errors():
        backend = found.load().backend
    confidence, correct = _answered(backend, questions, before, progress)
    guarantees = tuple(
        control_selective_error(confidence, correct, target, delta=delta) for target in targets
    )
    rules = tuple(_rule(each, questions) for each in guarantees)
    elsewhere: tuple[Elsewhere, ...] = ()
    if others is not None:
        found_there = _answered(backend, others, before, None)
        elsewhere = tuple(_elsewhere(rule, *found_there) for rule in rules)
    folder.mkdir(parents=True, exist_ok=True)
    if folder == saved.folder:
        withdraw_card(folder)
    carry_seen(held, folder)
    write_calibration(folder, replace(before, rules=rules, precision=found.precision))
    if folder == saved.folder:
        write_card(folder)
    return Guarded(folder, guarantees, rules, elsewhere, confidence, correct)


def explain(guarantee: SelectiveGuarantee) -> str:
    """Why nothing can be promised, and what would help; empty if something is."""
    if guarantee.threshold is not None:
        return ""
    n, needed = guarantee.n, guarantee.needed
    least = least_answers(guarantee.target_error, guarantee.delta)
    like = "" if needed is None else f"if more are like these, about {needed:,} are needed"
    if n < least:
        return (
            f"{n:,} questions are too few: even without an error {least:,} answers are needed; "
            + (like or f"with as many errors as here {BETTER_MODEL} is needed, too")
        )
    if like:
        return f"{n:,} questions are too few; {like}"
    return (
        f"too many of the most confident answers are wrong for this target; {BETTER_MODEL}, or a "
        "higher target, would help, more questions hardly"
    )


@styled
def risk_coverage_curve(guarded: Guarded) -> Figure:
    """Error among answered questions against the share answered, the thresholds on it."""
    answered, errors, _ = error_counts(guarded.confidence, guarded.correct)
    figure = new_figure(5.2, 3.4)
    axes = figure.subplots()
    n = len(guarded.confidence)
    axes.plot(answered / n, errors / answered, color="#0072b2", linewidth=1.5)
    for each in guarded.guarantees:
        axes.axhline(each.target_error, color=INK, linewidth=0.7, linestyle=":")
        if each.threshold is not None:
            axes.plot(each.coverage, each.errors / each.answered, "o", color="#d55e00")
            axes.annotate(
                f"from {100 * each.threshold:.1f} %",
                (each.coverage, each.errors / each.answered),
                textcoords="offset points",
                xytext=(7, -11),
            )
    percent_axis(axes, x=True)
    top = max([*(errors / answered), *(each.target_error for each in guarded.guarantees)])
    axes.set_ylim(0, 1.1 * top)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}")
    axes.set_xlabel("answered %")
    axes.set_ylabel("wrong among the answered %")
    return figure


def _questions(data: Path, found: FoundModel, calibration: Calibration, folder: Path) -> HeldOut:
    seen = {
        "was trained on": read_proven(folder, calibration.trained_on.get("sha256")),
        "was calibrated on": read_proven(
            folder, calibration.calibrated_on.get("sha256"), CALIBRATED_ON
        ),
    }
    with input_errors():
        positions = found.positions()
    rows = read_rows(data)
    made = held_out(data.name, rows, found.tokenizer, calibration.answers, seen, positions)
    for measured in calibration.metrics:
        if measured.sha256 == made.sha256:
            raise InputError(
                f"{data.name} is the {measured.split} split that the model was made with; guard it "
                "with questions that nothing was fitted to"
            )
    return made


def _answered(
    backend: Backend, questions: HeldOut, calibration: Calibration, progress: Told
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Calibrated confidences and whether the answers given are correct, [n]."""
    raw = ask(
        backend, questions.questions, calibration.answers, counted(progress, len(questions.hashes))
    )
    answers = calibrate(raw, replace(calibration, rules=()))
    correct = questions.correct([answer.answer for answer in answers])
    return np.array([answer.confidence for answer in answers]), correct


def _rule(guarantee: SelectiveGuarantee, questions: HeldOut) -> AbstentionRule:
    answered = guarantee.answered
    return AbstentionRule(
        target_error=guarantee.target_error,
        delta=guarantee.delta,
        threshold=guarantee.threshold,
        n=guarantee.n,
        coverage=guarantee.coverage,
        coverage_interval=guarantee.coverage_interval,
        error=guarantee.errors / answered if answered else None,
        source=questions.name,
        sha256=questions.sha256,
        reason=explain(guarantee),
    )


def _elsewhere(
    rule: AbstentionRule, confidence: NDArray[np.float64], correct: NDArray[np.bool_]
) -> Elsewhere:
    if rule.threshold is None:
        return Elsewhere(rule.target_error, 0.0, None)
    answered = confidence >= rule.threshold
    error = float(1 - correct[answered].mean()) if answered.any() else None
    return Elsewhere(rule.target_error, float(answered.mean()), error)
