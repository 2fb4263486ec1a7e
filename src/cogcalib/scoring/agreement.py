"""A temperature without labels: the base model's confidence, where both models answer alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cogcalib.metrics import consistency_interval, expected_calibration_error
from cogcalib.posthoc import TemperatureScaling
from cogcalib.records import Prediction
from cogcalib.scoring.posthoc import check_calibration, option_shares

CALIBRATED = 0.05
"""Largest ECE of a base model that is called calibrated however many questions say so, fraction."""


def fit_to_base(
    predictions: Sequence[Prediction],
    base: Sequence[Prediction],
    in_domain: TemperatureScaling | None = None,
) -> TemperatureScaling:
    """Fit a temperature to the base model's shares of the options, without labels.

        T* = argmin_T  mean over {i: answer_i = base answer_i} of KL(q_i || softmax(z_i / T))

    with z the logs of the fine-tuned model's shares among the options and q the base model's
    (Disagreement-Aware Confidence Alignment; Luo et al., NeurIPS 2025, arXiv 2505.16690). Where the
    two answer otherwise, the base model's confidence is in another answer and says nothing of this
    one: with these questions T would be too large. It rests on a calibrated base model, see
    `why_uncalibrated`.

    T* is correct where fine-tuning taught nothing, and too high where it taught something. One that
    was fitted with labels in domain is too low where fine-tuning taught less than there. With
    `in_domain` the temperature is halfway, the geometric mean sqrt(T* T_in_domain).

    Neither `answer` nor `correct` nor `nll` is read, so that the questions may be those which are
    to be answered. Apply what was fitted with `apply_option_scaling`.

    Args:
        predictions: Of the fine-tuned model, multiple choice.
        base: Of the base model, of the same questions in the same order.
        in_domain: Fitted on the calibration split of the task trained on; None takes T* as it is.

    Returns:
        The fitted scaling, to be used on these questions.

    Raises:
        ValueError: If the two are not of the same multiple-choice questions, or never agree.
    """
    if [row.id for row in predictions] != [row.id for row in base]:
        raise ValueError("base must hold predictions of the same questions in the same order")
    pairs = [
        (own, other)
        for own, other in zip(predictions, base, strict=True)
        if own.prediction == other.prediction
    ]
    for own, other in pairs:
        sizes = [len(row.option_logprobs or ()) for row in (own, other)]
        if 0 in sizes or sizes[0] != sizes[1]:
            raise ValueError(
                f"predictions {own.id!r} must have a log-probability of each of the same options, "
                f"got {sizes[0]} and {sizes[1]}: this is for multiple choice"
            )
    if not pairs:
        raise ValueError(
            f"the model and its base must agree on some answers, got none of {len(predictions)}"
        )
    width = max(len(own.option_logprobs or ()) for own, _ in pairs)
    tuned, target = (option_shares(rows, width) for rows in zip(*pairs, strict=True))
    scaling = TemperatureScaling().fit_distribution(tuned, np.exp(target))
    if in_domain is not None:
        scaling.temperature_ = math.sqrt(scaling.temperature_ * in_domain.temperature_)
        scaling.at_bound_ |= in_domain.at_bound_
    return scaling


def why_uncalibrated(base: Sequence[Prediction]) -> str:
    """The reason not to trust a base model's confidence; empty if it may be trusted.

    It is calibrated if its ECE over the options (15 bins of equal width) is at most `CALIBRATED`,
    or within its noise floor, the 95 % interval of a perfectly calibrated model with the same
    confidences: few questions cannot show that it is not.

    Args:
        base: Predictions of the base model on the calibration split, multiple choice.

    Raises:
        ValueError: If there are none, they are of another split, or lack the confidence.
    """
    check_calibration(base)
    if lacking := [row.id for row in base if "options" not in row.confidence]:
        raise ValueError(f"base must have the confidence options, {lacking[0]!r} has not")
    confidence = np.array([row.confidence["options"] for row in base])
    error = expected_calibration_error(confidence, [row.correct for row in base])
    _, floor = consistency_interval(expected_calibration_error, confidence)
    if error <= max(CALIBRATED, floor):
        return ""
    return (
        f"the base model is not calibrated: on {len(base):,} calibration questions its ECE over "
        f"the options is {100 * error:.2f} %, allowed are {100 * CALIBRATED:g} % or the noise "
        f"floor, {100 * floor:.2f} %"
    )
