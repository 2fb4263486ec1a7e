"""One row of ``metrics.json`` from the predictions of one method on one split."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cogcalib.metrics import (
    SMALL_N,
    Estimate,
    check_predictions,
    consistency_interval,
    coverage_at_accuracy,
    enough_resamples,
    expected_calibration_error,
    grouped_intervals,
    mean,
    risk_coverage_curve,
    standard_metrics,
    threshold_at_accuracy,
)
from cogcalib.records import Prediction
from cogcalib.scoring.confidence_names import MULTIPLE_CHOICE, OPEN_ENDED, ranked

BINS = 15
COVERAGES = tuple(k / 10 for k in range(1, 11))
"""Shares answered at which the risk-coverage curve is kept, fractions."""
WANTED = {"coverage_at_90": 0.9, "coverage_at_95": 0.95}
"""Metric -> the accuracy that the answered must have, fraction."""
FLOOR_DRAWS = 200
"""Draws of a noise floor at most; of many predictions fewer, whose floor hardly varies."""
_NLL = "nll"

EVERY_DEFINITION = ("ece", "ece_mass", "auroc")
"""Metrics of every confidence definition; the others are of the primary one."""

MADE_WITH: Mapping[str, Mapping[str, Any]] = {
    "ece": {"bins": BINS, "binning": "width"},
    "ece_mass": {"bins": BINS, "binning": "mass"},
    "mce": {"bins": BINS, "binning": "width"},
    "smooth_ece": {},
    "aurc": {},
    **{name: {"accuracy": accuracy} for name, accuracy in WANTED.items()},
    "selective_accuracy": {"threshold": 0.9},
}
"""What stands beside the value of a metric in its row: without it the figure means little."""


def summarize(
    predictions: Sequence[Prediction],
    *,
    method: str,
    seed: int | None,
    resamples: int = 1000,
    known: tuple[float | None, float | None] = (None, None),
) -> dict[str, Any]:
    """Accuracy, NLL and calibration of one method on one task's split.

    Args:
        predictions: Predictions of one model on distinct examples of one task and split, all with
            the same confidence definitions.
        method: Name of the method.
        seed: Of the training, None if unknown; the intervals' own draws are fixed.
        resamples: Bootstrap resamples per interval; of more than 100,000 predictions fewer, see
            `cogcalib.metrics.enough_resamples`.
        known: Shares that the gate called known in its first and last epoch; None without a gate.

    Returns:
        A row of ``metrics.json``; every value a fraction but `nll` (nats), `n` and `seed`.

        - ``accuracy``, ``nll``, ``brier`` (of the primary confidence, see `primary_definition`),
            with 95 % bootstrap ``intervals`` (name -> [low, high]; ``auroc``: definition ->
            [low, high], None where undefined).
        - ``ece`` and ``ece_mass``: definition -> ``value``, ``low``, ``high``, ``bins`` and
            ``binning`` (``width`` or ``mass``); of ``ece`` also ``floor``, the 95 % interval of the
            ECE of a perfectly calibrated model with the same confidences.
        - ``mce``, ``smooth_ece``, ``aurc``, ``coverage_at_90``, ``coverage_at_95``,
            ``selective_accuracy``: the same for the primary definition alone, beside it what each
            was made with and the ``threshold`` (found for the coverages), with the accuracy at a
            confidence how many were ``answered``; None where undefined.
        - ``risk_coverage``: definition -> ``coverage`` and ``error`` of the most confident, lists.
        - ``auroc`` (None where all are correct or wrong), mean ``confidence``: definition -> value.
        - ``small_n``: fewer than `cogcalib.metrics.SMALL_N` examples.

    Raises:
        ValueError: If there are no predictions, or they differ in task, split, model or
            definitions, or repeat an id.
    """
    _check(predictions)
    correct = np.array([row.correct for row in predictions], dtype=bool)
    nll = np.array([row.nll for row in predictions], dtype=np.float64)
    confidence = {
        name: np.array([row.confidence[name] for row in predictions], dtype=np.float64)
        for name in predictions[0].confidence
    }
    primary = primary_definition(predictions)
    estimates, nll_interval = _estimates(confidence, correct, nll, primary, resamples)
    of_primary = estimates[primary]
    return {
        "method": method,
        "task": predictions[0].task,
        "split": predictions[0].split,
        "seed": seed,
        "n": len(predictions),
        "accuracy": of_primary["accuracy"].value,
        "nll": mean(nll),
        "brier": of_primary["brier"].value,
        **{name: _by_definition(name, estimates) for name in MADE_WITH},
        "ece": _errors(confidence, estimates, min(resamples, FLOOR_DRAWS)),
        **_selective(primary, confidence[primary], correct, of_primary),
        "auroc": {name: _or_none(row["auroc"].value) for name, row in estimates.items()},
        "intervals": _intervals(estimates, primary, nll_interval),
        "confidence": {name: mean(row) for name, row in confidence.items()},
        "small_n": len(predictions) < SMALL_N,
        "known_first_epoch": known[0],
        "known_last_epoch": known[1],
    }


def _errors(
    confidence: Mapping[str, NDArray[np.float64]],
    estimates: Mapping[str, Mapping[str, Estimate]],
    draws: int,
) -> dict[str, dict[str, Any]]:
    """The ECE of every definition with its noise floor."""
    found = _by_definition("ece", estimates)
    return {name: row | {"floor": _floor(confidence[name], draws)} for name, row in found.items()}


def _intervals(
    estimates: Mapping[str, Mapping[str, Estimate]], primary: str, nll: list[float]
) -> dict[str, Any]:
    return {
        "accuracy": _bounds(estimates[primary]["accuracy"]),
        "nll": nll,
        "brier": _bounds(estimates[primary]["brier"]),
        "auroc": {name: _bounds(row["auroc"]) for name, row in estimates.items()},
    }


def _selective(
    primary: str,
    confidence: NDArray[np.float64],
    correct: NDArray[np.bool_],
    estimates: Mapping[str, Estimate],
) -> dict[str, Any]:
    """Coverages and their thresholds, accuracy where it is sure, and the risk-coverage curve."""
    name = "selective_accuracy"
    (made,) = _by_definition(name, {primary: estimates}).values()
    answered = int((confidence >= made["threshold"]).sum())
    found: dict[str, Any] = {name: {primary: made | {"answered": answered}}}
    for name, accuracy in WANTED.items():
        (made,) = _by_definition(name, {primary: estimates}).values()
        threshold = threshold_at_accuracy(confidence, correct, accuracy)
        found[name] = {primary: made | {"threshold": _or_none(threshold)}}
    errors = risk_coverage_curve(confidence, correct, COVERAGES)
    curve = {"coverage": list(COVERAGES), "error": errors}
    return {**found, "risk_coverage": {primary: curve}}


def primary_definition(predictions: Sequence[Prediction]) -> str:
    """The definition named first: ``options``, for open-ended answers ``mean``.

    Predictions from elsewhere may lack it; then the next of ``vocab``, ``surface``, ``joint``.

    Raises:
        ValueError: If there are no predictions, or they carry none of these.
    """
    given = predictions[0].confidence if predictions else {}
    known = (*MULTIPLE_CHOICE, *OPEN_ENDED)
    first = next(iter(ranked(given)), None)
    if first not in known:
        raise ValueError(
            f"predictions must carry a confidence among {', '.join(known)}, got {sorted(given)}"
        )
    return first


def _estimates(
    confidence: Mapping[str, NDArray[np.float64]],
    correct: NDArray[np.bool_],
    nll: NDArray[np.float64],
    primary: str,
    resamples: int,
) -> tuple[dict[str, dict[str, Estimate]], list[float]]:
    """Definition -> metric -> estimate, and the interval of the NLL, from the same resamples."""
    every = standard_metrics(
        bins=BINS,
        threshold=MADE_WITH["selective_accuracy"]["threshold"],
    )
    for name, accuracy in WANTED.items():
        every[name] = partial(coverage_at_accuracy, accuracy=accuracy)
    every = {name: every[name] for name in (*MADE_WITH, "accuracy", "brier", "auroc")}
    some = {name: every[name] for name in EVERY_DEFINITION}
    chosen = {name: every if name == primary else some for name in confidence}
    arrays = {name: check_predictions(row, correct) for name, row in confidence.items()}
    intervals = grouped_intervals(
        {_NLL: ({_NLL: mean}, [nll]), **{name: (chosen[name], arrays[name]) for name in arrays}},
        resamples=enough_resamples(len(nll), resamples),
    )
    estimates = {
        definition: {
            name: Estimate(metric(*arrays[definition]), *intervals[definition][name])
            for name, metric in metrics.items()
        }
        for definition, metrics in chosen.items()
    }
    return estimates, list(intervals[_NLL][_NLL])


def _by_definition(
    metric: str, estimates: Mapping[str, Mapping[str, Estimate]]
) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "value": _or_none(row[metric].value),
            "low": _or_none(row[metric].low),
            "high": _or_none(row[metric].high),
            **MADE_WITH[metric],
        }
        for name, row in estimates.items()
        if metric in row
    }


def _floor(confidence: NDArray[np.float64], most: int) -> list[float]:
    """The ECE that chance alone gives a perfectly calibrated model with these confidences."""
    draws = min(most, max(50, 10_000_000 // len(confidence)))
    metric = partial(expected_calibration_error, bins=BINS)
    return list(consistency_interval(metric, confidence, resamples=draws))


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _bounds(estimate: Estimate) -> list[float] | None:
    return None if math.isnan(estimate.low) else [estimate.low, estimate.high]


def _check(predictions: Sequence[Prediction]) -> None:
    if not predictions:
        raise ValueError("predictions is empty: there is nothing to summarize")
    for name in ("task", "split", "model"):
        values = sorted({getattr(row, name) for row in predictions})
        if len(values) > 1:
            raise ValueError(f"predictions must come from one {name}, got {', '.join(values)}")
    if len({row.id for row in predictions}) < len(predictions):
        raise ValueError("predictions must have distinct ids, some come more than once")
    definitions = {tuple(sorted(row.confidence)) for row in predictions}
    if len(definitions) > 1:
        raise ValueError(
            f"predictions must share their confidence definitions, got {sorted(definitions)}"
        )
