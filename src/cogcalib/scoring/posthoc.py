"""Post-hoc calibration of predictions made already: no model is asked again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from cogcalib.posthoc import IsotonicCalibration, PlattScaling, VectorScaling
from cogcalib.posthoc.calibrator import ConfidenceCalibrator, LogitCalibrator
from cogcalib.records import Example, Prediction
from cogcalib.scoring.confidence_names import CONFIDENCE_MAPS
from cogcalib.scoring.config import ScoreSettings
from cogcalib.scoring.multiple_choice import choose

_MAPS: Mapping[str, type[ConfidenceCalibrator]] = dict(
    zip(CONFIDENCE_MAPS, (PlattScaling, IsotonicCalibration), strict=True)
)

T = TypeVar("T", bound=LogitCalibrator)


def fit_confidence_maps(
    method: str, calibration: Sequence[Prediction]
) -> dict[str, ConfidenceCalibrator]:
    """Fit a map of the confidence to a model's predictions on its calibration split.

    Args:
        method: ``platt`` or ``isotonic``.
        calibration: Predictions of split ``calibration``, all of one model.

    Returns:
        Confidence definition -> the fitted map.

    Raises:
        ValueError: If the method is unknown, a prediction is of another split, there are none, or
            they differ in model or definitions.
    """
    if method not in _MAPS:
        raise ValueError(f"method must be one of {', '.join(CONFIDENCE_MAPS)}, got {method!r}")
    _check_calibration(calibration)
    correct = [row.correct for row in calibration]
    return {
        name: _MAPS[method]().fit([row.confidence[name] for row in calibration], correct)
        for name in calibration[0].confidence
    }


def apply_confidence_maps(
    fitted: Mapping[str, ConfidenceCalibrator], predictions: Sequence[Prediction]
) -> list[Prediction]:
    """Predictions with calibrated confidences, in the order given.

    Nothing but `confidence` changes. `nll` and `option_logprobs` stay the model's own,
    uncalibrated: a map of the confidence in one answer says nothing of the others.

    Args:
        fitted: What `fit_confidence_maps` returned for the same model.
        predictions: Of any split.

    Raises:
        ValueError: If a prediction's confidence definitions are not those fitted on.
    """
    for row in predictions:
        if set(row.confidence) != set(fitted):
            raise ValueError(
                f"prediction {row.id!r} must have the confidence definitions fitted on, "
                f"{sorted(fitted)}, got {sorted(row.confidence)}"
            )
    mapped = {
        name: calibrator.transform(np.array([row.confidence[name] for row in predictions]))
        for name, calibrator in fitted.items()
    }
    return [
        replace(row, confidence={name: float(mapped[name][at]) for name in row.confidence})
        for at, row in enumerate(predictions)
    ]


def fit_option_scaling(
    scaling: T, calibration: Sequence[Prediction], examples: Sequence[Example]
) -> T:
    """Fit a scaling of the options' shares to a model's predictions on its calibration split.

    What is scaled are the logs of the options' shares among each other, so that it does not matter
    whether predictions carry logits or log-probabilities over more than the options.

    Args:
        scaling: What is fitted: a `VectorScaling`, a weight and a bias for each position in which
            an option stands; or a `TemperatureScaling`, one number for them all.
        calibration: Multiple-choice predictions of split ``calibration``, all of one model. Some
            questions may have fewer options than others.
        examples: Their questions, in the same order, which know the options' letters.

    Raises:
        ValueError: As `fit_confidence_maps`, or if a prediction is open-ended or not of the example
            beside it.
    """
    _check_calibration(calibration)
    _check_examples(calibration, examples)
    width = max(len(row.option_logprobs or ()) for row in calibration)
    gold = [_letters(example).index(example.answer) for example in examples]
    return scaling.fit(option_shares(calibration, width), gold)


def apply_option_scaling(
    scaling: LogitCalibrator, predictions: Sequence[Prediction], examples: Sequence[Example]
) -> list[Prediction]:
    """Predictions from scaled options, in the order given.

    `prediction`, `correct`, `nll` and the confidence ``options`` follow the scaled shares, which
    become the `option_logprobs`: they sum to one over the options. ``vocab`` and ``surface``, which
    look beyond the options' tokens, are left out.

    Args:
        scaling: What `fit_option_scaling` returned for the same model.
        predictions: Multiple-choice predictions of any split.
        examples: Their questions, in the same order.

    Raises:
        ValueError: If a prediction is open-ended, not of the example beside it, or has more options
            than there are weights.
    """
    _check_examples(predictions, examples)
    if not predictions:
        return []
    longest = max(predictions, key=lambda row: len(row.option_logprobs or ()))
    width = len(longest.option_logprobs or ())
    if isinstance(scaling, VectorScaling):
        if width > len(scaling.weight_):
            raise ValueError(
                f"prediction {longest.id!r} must have at most the {len(scaling.weight_)} options "
                f"fitted on, got {width}"
            )
        width = len(scaling.weight_)
    shares = log_softmax(scaling.transform(option_shares(predictions, width)), axis=1)
    confidence = [{"options": min(1.0, float(np.exp(row.max())))} for row in shares]
    rows = shares.tolist()
    chosen = choose(examples, ScoreSettings(), rows, rows, confidence)
    return [
        replace(new, model=old.model, run=old.run)
        for new, old in zip(chosen, predictions, strict=True)
    ]


def option_shares(predictions: Sequence[Prediction], width: int) -> NDArray[np.float64]:
    """Logs of the options' shares, [n, width]; an option that a question lacks has -inf."""
    scores = np.full((len(predictions), width), -np.inf)
    for at, row in enumerate(predictions):
        own = row.option_logprobs or ()
        scores[at, : len(own)] = own
    return np.asarray(log_softmax(scores, axis=1))


def _letters(example: Example) -> list[str]:
    return [option.letter for option in example.options or ()]


def check_calibration(rows: Sequence[Example] | Sequence[Prediction]) -> None:
    """Raise a ValueError unless there are rows, and all are of split ``calibration``."""
    if not rows:
        raise ValueError("calibration is empty: there is nothing to fit")
    strangers = [row.id for row in rows if row.split != "calibration"]
    if strangers:
        raise ValueError(
            f"post-hoc calibration is fitted on the calibration split only; {len(strangers)} of "
            f"{len(rows)} rows are of another, the first {strangers[0]!r}"
        )


def _check_calibration(predictions: Sequence[Prediction]) -> None:
    check_calibration(predictions)
    if len(models := sorted({row.model for row in predictions})) > 1:
        raise ValueError(f"calibration must come from one model, got {', '.join(models)}")
    definitions = {tuple(sorted(row.confidence)) for row in predictions}
    if len(definitions) > 1:
        raise ValueError(
            f"calibration must share its confidence definitions, got {sorted(definitions)}"
        )


def _check_examples(predictions: Sequence[Prediction], examples: Sequence[Example]) -> None:
    if len(predictions) != len(examples):
        raise ValueError(
            f"examples must be those of the {len(predictions)} predictions, got {len(examples)}"
        )
    for row, example in zip(predictions, examples, strict=True):
        if (row.id, row.answer) != (example.id, example.answer):
            raise ValueError(
                f"examples must be those of the predictions, got {example.id!r} beside {row.id!r}"
            )
        own = row.option_logprobs
        if own is None or len(own) != len(_letters(example)):
            raise ValueError(
                f"prediction {row.id!r} must have a log-probability of each of its example's "
                f"{len(_letters(example))} options, got {own}: a scaling of options is for "
                "multiple choice"
            )
