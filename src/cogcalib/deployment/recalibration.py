"""Recalibration: a post-hoc map fitted to a saved model, written into its `calibration.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from cogcalib.deployment.access import ModelAccess
from cogcalib.deployment.answer import Answer
from cogcalib.deployment.calibrated import CALIBRATORS, calibrate
from cogcalib.deployment.calibration_file import (
    FILE,
    METHODS,
    OPTIONS,
    AnswerFormat,
    Calibration,
    FittedMap,
    SplitMetrics,
    read_calibration,
    write_calibration,
)
from cogcalib.deployment.card import withdraw_card, write_card
from cogcalib.deployment.guessing import said_of_guessing
from cogcalib.deployment.halfway import (
    AgainstBase,
    ask_both,
    check_answers,
    find_base,
    take_base,
)
from cogcalib.deployment.held_out import (
    HeldOut,
    Told,
    answer_format,
    counted,
    held_out,
    read_rows,
    without_answers,
)
from cogcalib.deployment.identity import check_identity
from cogcalib.deployment.opened import (
    SavedModel,
    calibration_folder,
    check_changeable,
    find_model,
    identify_model,
)
from cogcalib.deployment.raw_answers import RawAnswer, ask
from cogcalib.deployment.seen_questions import (
    CALIBRATED_ON,
    carry_seen,
    read_proven,
    read_seen,
    set_hash,
    write_seen,
)
from cogcalib.deployment.split_metrics import Graded, confidence_histogram, split_metrics
from cogcalib.posthoc import TemperatureScaling
from cogcalib.posthoc.calibrator import ConfidenceCalibrator, LogitCalibrator
from cogcalib.records import InputError, input_errors

FOLDS = 5
"""Parts of the questions; each is judged by a map that was fitted to the others."""
SPLIT = "recalibration"
"""Name of the questions in the file."""


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """What a recalibration left.

    Attributes:
        folder: Where the calibration lies.
        metrics: Before and after, on the questions fitted on.
        fitted: The map.
        voided: Abstention rules that went: their thresholds were for other confidences.
        unread: Keys of answers in the unlabelled data, which nobody looked at.
        remark: That the model guesses among options, as far as can be told; empty if it does not.
    """

    folder: Path
    metrics: SplitMetrics
    fitted: FittedMap
    voided: int
    unread: tuple[str, ...] = ()
    remark: str = ""


def recalibrate(
    model: str | Path,
    data: Path,
    method: str,
    access: ModelAccess,
    *,
    unlabelled: Path | None = None,
    output: Path | None = None,
    progress: Told = None,
) -> Recalibrated:
    """Fit a map to a model's confidence and write it beside the model.

    The metrics behind the map are out of fold: each question is judged by a map that was fitted to
    the others. The map that is kept is fitted to all.

    Args:
        model: Folder or hub id; it need not have been calibrated before.
        data: JSONL, CSV or Parquet file of questions with their answers, see `held_out`.
        method: One of `METHODS`; without options ``platt`` or ``isotonic``.
        access: How the model is asked; of a whole model with `unlabelled` its `base` is the model
            that it was trained from.
        unlabelled: File of questions of another task, for which the temperature is moved halfway to
            the one that the base model's confidence gives there (`cogcalib.deployment.halfway`).
        output: Folder for the calibration; None: the model's own.
        progress: Told of finished questions, and of how many there are.

    Raises:
        InputError: If the model, the data or the method cannot be used, before the weights are
            read; all answers are correct, or none; or as `ask_both`. Nothing was written then.
    """
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    saved = find_model(model)
    folder = check_changeable(saved, output)
    base = None
    if unlabelled is not None:
        access, base = take_base(saved, access, method)
    rows = read_rows(data)
    held = calibration_folder(saved) if saved.file(FILE) else None
    before = read_calibration(held) if held else None
    with input_errors():
        found = identify_model(saved, access, before)
    if before and held:
        check_identity(before, found.identity, held)
    answers = before.answers if before else answer_format(rows)
    if unlabelled is not None:
        check_answers(answers)
    _check_method(method, answers)
    with input_errors():
        how = (found.tokenizer, answers, _seen(held or saved.folder, before), found.positions())
    questions = held_out(data.name, rows, *how)
    _check_places(method, questions)
    against = None
    if unlabelled is None:
        with input_errors():
            backend = found.load().backend
        raw = ask(backend, questions.questions, answers, counted(progress, len(rows)))
    else:
        target = without_answers(unlabelled.name, read_rows(unlabelled), *how)
        other = find_base(base, found, access, (questions, target)) if base else None
        raw, against = ask_both(found, other, questions, target, answers, progress)
    bare = replace(before, map=None, rules=()) if before else Calibration(found.identity, answers)
    made = fit(bare, questions, raw, method, against)
    _write(folder, saved, replace(made, precision=found.precision), questions, against, held)
    assert made.map is not None
    voided = len(before.rules) if before else 0
    unread = against.unlabelled.unread if against else ()
    counts = [len(each.options or ()) for each in questions.questions]
    remark = said_of_guessing(made.metrics[-1], counts)
    return Recalibrated(folder, made.metrics[-1], made.map, voided, unread, remark)


def _seen(source: Path | None, before: Calibration | None) -> Mapping[str, frozenset[str]]:
    """What the model has learnt, which `source` has the hashes of."""
    if source is None:
        return {}
    known = before.trained_on.get("sha256") if before else None
    return {"was trained on": read_proven(source, known)}


def _check_method(method: str, answers: AnswerFormat) -> None:
    if answers.kind != OPTIONS and method not in ("platt", "isotonic"):
        raise InputError(
            f"method must be platt or isotonic for generated answers, got {method!r}: "
            "it acts on the log-probabilities of options"
        )


def _check_places(method: str, questions: HeldOut) -> None:
    """Raise InputError if vector scaling would learn nothing but where the answer stands."""
    if method == "vector" and len(set(questions.gold().tolist())) < 2:
        raise InputError(
            f"{questions.name}: the correct option stands in the same place in all "
            f"{len(questions.hashes)} questions, which vector scaling would then always answer; "
            "mix the options, or choose another method"
        )


def _write(
    folder: Path,
    saved: SavedModel,
    made: Calibration,
    questions: HeldOut,
    against: AgainstBase | None,
    held: Path | None,
) -> None:
    """Write a calibration and what its model has seen, beside which `held` has the earlier one."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder == saved.folder:
        withdraw_card(folder)
    # With those that the training looked at. Written first: a map whose questions are not known
    # could be guarded with them.
    looked_at = frozenset(questions.hashes)
    if against is not None:
        looked_at |= frozenset(against.unlabelled.hashes)
    if held is not None:
        looked_at |= read_seen(held, CALIBRATED_ON)
        carry_seen(held, folder)
    write_seen(folder, looked_at, CALIBRATED_ON)
    seen = {"n": len(looked_at), "sha256": set_hash(looked_at)}
    write_calibration(folder, replace(made, calibrated_on=seen))
    if folder == saved.folder:
        write_card(folder)


def fit(
    calibration: Calibration,
    questions: HeldOut,
    raw: list[RawAnswer],
    method: str,
    against: AgainstBase | None = None,
) -> Calibration:
    """A calibration with a map, and with the metrics before and after it.

    Args:
        calibration: Without a map and rules.
        questions: What was asked.
        raw: What the model said.
        method: One of `METHODS`.
        against: What moves a temperature halfway; None leaves the map to the labels.

    Raises:
        InputError: If all answers are correct, or none.
    """
    correct = questions.grade(raw)
    rows = np.arange(len(raw))
    folds = np.random.default_rng(0).permutation(len(raw)) % FOLDS
    answers: dict[int, Answer] = {}
    for fold in range(FOLDS):
        inside, outside = rows[folds == fold], rows[folds != fold]
        fitted = _fitted(calibration, questions, raw, correct, method, outside, against)
        judged = calibrate([raw[row] for row in inside], replace(calibration, map=fitted))
        answers |= zip(inside.tolist(), judged, strict=True)
    in_order = [answers[row] for row in range(len(raw))]
    confidence = np.array([answer.confidence for answer in in_order])
    right = questions.correct([answer.answer for answer in in_order])
    nll = _nll(questions, in_order)
    own = np.array([answer.confidence[calibration.answers.confidence] for answer in raw])
    with_options = calibration.answers.kind == OPTIONS
    metrics = split_metrics(
        SPLIT,
        questions.sha256,
        Graded(own, correct, _own_nll(questions, raw) if with_options else None),
        Graded(confidence, right, nll if with_options else None),
    )
    earlier = tuple(
        replace(each, calibrated={}, calibrated_bins=None)
        for each in calibration.metrics
        if each.split != SPLIT
    )
    return replace(
        calibration,
        map=_fitted(calibration, questions, raw, correct, method, rows, against),
        metrics=(*earlier, metrics),
        confidence_histogram=confidence_histogram(confidence),
    )


def _fitted(
    calibration: Calibration,
    questions: HeldOut,
    raw: list[RawAnswer],
    correct: NDArray[np.bool_],
    method: str,
    rows: NDArray[np.int64],
    against: AgainstBase | None,
) -> FittedMap:
    made = CALIBRATORS[method]()
    if isinstance(made, LogitCalibrator):
        made.fit(_logits(raw)[rows], questions.gold()[rows])
    elif isinstance(made, ConfidenceCalibrator):
        own = np.array([answer.confidence[calibration.answers.confidence] for answer in raw])
        made.fit(own[rows], correct[rows])
    asked, halfway = questions.questions, None
    if against is not None:
        assert isinstance(made, TemperatureScaling)
        made, halfway = against.scaling(made), against.record(made)
        asked = [*asked, *against.unlabelled.questions]
    kinds = [question.one_token for question in asked if question.options]
    return FittedMap(
        method,
        made.fitted(),
        len(rows),
        questions.name,
        questions.sha256,
        one_token=all(kinds) if kinds else None,
        halfway=halfway,
    )


def _logits(raw: list[RawAnswer]) -> NDArray[np.float64]:
    """Log-probabilities of the options, [n, most options], -inf where a question has fewer."""
    width = max(len(answer.logprobs) for answer in raw)
    scores = np.full((len(raw), width), -np.inf)
    for row, answer in zip(scores, raw, strict=True):
        row[: len(answer.logprobs)] = answer.logprobs
    return scores


def _nll(questions: HeldOut, answers: list[Answer]) -> NDArray[np.float64]:
    """Of the gold option behind the map, [n]; infinite where a map leaves it nothing."""
    found = []
    for answer, question, accepted in zip(
        answers, questions.questions, questions.accepted, strict=True
    ):
        shares = {each.answer: each.probability for each in answer.alternatives}
        share = shares[question.options[int(accepted[0])]] if question.options else 1.0
        found.append(-np.log(share) if share > 0 else np.inf)
    return np.array(found)


def _own_nll(questions: HeldOut, raw: list[RawAnswer]) -> NDArray[np.float64]:
    """Of the gold option among the options, [n]."""
    shares = log_softmax(_logits(raw), axis=1)
    return np.asarray(-shares[np.arange(len(raw)), questions.gold()])
