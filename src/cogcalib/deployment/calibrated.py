"""Calibrated answers: a model's own confidence through the map and the rule of its calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from cogcalib.deployment.answer import Alternative, Answer
from cogcalib.deployment.calibration_file import (
    FILE,
    AbstentionRule,
    Calibration,
    FittedMap,
)
from cogcalib.deployment.inputs import RefusedInput
from cogcalib.deployment.raw_answers import RawAnswer
from cogcalib.posthoc import IsotonicCalibration, PlattScaling, TemperatureScaling, VectorScaling
from cogcalib.posthoc.calibrator import Calibrator, ConfidenceCalibrator, LogitCalibrator
from cogcalib.records import InputError

CALIBRATORS: Mapping[str, type[Calibrator]] = {
    "temperature": TemperatureScaling,
    "platt": PlattScaling,
    "isotonic": IsotonicCalibration,
    "vector": VectorScaling,
}
"""Method of a `FittedMap` -> what its parameters are of."""


def restore(fitted: FittedMap) -> Calibrator:
    """The calibrator that a map was fitted as.

    Raises:
        InputError: If its parameters cannot have been fitted.
    """
    try:
        return CALIBRATORS[fitted.method].from_fitted(fitted.parameters)
    except ValueError as error:
        raise InputError(f"{FILE}: map {fitted.method}: {error}; recalibrate the model") from error


def calibrate(
    raw: Sequence[RawAnswer], calibration: Calibration, *, first: int = 0
) -> list[Answer]:
    """Answers with a calibrated confidence, and whether to give them.

    A temperature or vector scaling acts on the log-probabilities of the options, whose softmax is
    the distribution over the alternatives; the answer is its arg max. Platt scaling and isotonic
    calibration map the confidence of the answer; the other options share the rest in proportion.
    The rule in force is the first one: below its threshold, and everywhere if it could promise
    nothing, the answer abstains.

    Args:
        raw: What the model says.
        calibration: Its calibration.
        first: Index of the first answer, for messages.

    Raises:
        InputError: If the map's parameters cannot have been fitted.
        RefusedInput: If the map does not fit an answer.
    """
    definition = calibration.answers.confidence
    rule = calibration.rules[0] if calibration.rules else None
    fitted = restore(calibration.map) if calibration.map is not None else None
    found = []
    for index, answer in enumerate(raw, start=first):
        try:
            if answer.chosen is None:
                found.append(_of_text(answer, fitted, definition, rule))
            else:
                found.append(_of_options(answer, fitted, rule))
        except ValueError as error:
            raise RefusedInput(index, str(error)) from error
    return found


def abstains(confidence: float, rule: AbstentionRule | None) -> bool:
    """Whether a rule says not to answer at a calibrated confidence."""
    return rule is not None and (rule.threshold is None or confidence < rule.threshold)


def _of_options(raw: RawAnswer, fitted: Calibrator | None, rule: AbstentionRule | None) -> Answer:
    logprobs = np.array(raw.logprobs, dtype=np.float64)
    own = softmax(logprobs)
    best = int(own.argmax())
    shares = own
    if isinstance(fitted, LogitCalibrator):
        shares = softmax(fitted.transform(logprobs[None])[0])
        best = int(shares.argmax())
    elif isinstance(fitted, ConfidenceCalibrator):
        shares = _with_confidence(own, best, _mapped(fitted, float(own[best])))
    order = sorted(range(len(shares)), key=lambda k: (-shares[k], k != best))
    labels = raw.question.options
    confidence = float(shares[best])
    return Answer(
        answer=labels[best],
        confidence=confidence,
        raw_confidence=min(1.0, float(own[best])),
        abstain=abstains(confidence, rule),
        alternatives=tuple(Alternative(labels[k], float(shares[k])) for k in order),
    )


def _with_confidence(own: NDArray[np.float64], best: int, confidence: float) -> NDArray[np.float64]:
    """Shares in which the best has a confidence and the others the rest, in proportion."""
    others = np.delete(own, best)
    total = others.sum()
    rest = others / total if total > 0 else np.full_like(others, 1 / len(others))
    return np.insert(rest * (1.0 - confidence), best, confidence)


def _of_text(
    raw: RawAnswer, fitted: Calibrator | None, definition: str, rule: AbstentionRule | None
) -> Answer:
    if isinstance(fitted, LogitCalibrator):
        raise ValueError(
            f"a map of the kind {fitted.kind} acts on options, the answer is generated; "
            "recalibrate with platt or isotonic"
        )
    own = raw.confidence[definition]
    confidence = own
    if isinstance(fitted, ConfidenceCalibrator):
        confidence = _mapped(fitted, own)
    return Answer(
        answer=raw.text,
        confidence=confidence,
        raw_confidence=own,
        abstain=abstains(confidence, rule),
        alternatives=(Alternative(raw.text, confidence),),
        tokens=raw.tokens,
    )


def _mapped(fitted: ConfidenceCalibrator, confidence: float) -> float:
    return float(fitted.transform([min(1.0, confidence)])[0])
