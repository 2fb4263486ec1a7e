"""One row of ``metrics.json`` from the predictions of one method on one split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cogcalib.metrics import (
    auroc,
    bootstrap_interval,
    brier_score,
    expected_calibration_error,
)
from cogcalib.records import Prediction
from cogcalib.scoring.definitions import MULTIPLE_CHOICE, OPEN_ENDED

SMALL_N = 500
"""Below this many examples a row is flagged: its calibration error is mostly noise."""


def summarize(
    predictions: Sequence[Prediction],
    *,
    method: str,
    seed: int | None,
    resamples: int = 1000,
    share_known: float | None = None,
) -> dict[str, Any]:
    """Accuracy, NLL and calibration of one method on one task's split.

    Args:
        predictions: Predictions of one model on distinct examples of one task and split, all with
            the same confidence definitions.
        method: Name of the method.
        seed: Seed the method was trained with, None if unknown (the intervals' own draws are
            fixed).
        resamples: Bootstrap resamples per interval.
        share_known: Mean share of training examples the gate called known, a fraction; None where
            no gate ran.

    Returns:
        A row of ``metrics.json``; every value a fraction but `nll` (nats), `n` and `seed`.

        - ``accuracy``, ``nll``, ``brier`` (of the primary confidence, see `primary_definition`),
          with 95 % bootstrap ``intervals`` (name -> [low, high]; ``auroc``: definition ->
          [low, high], None where undefined).
        - ``ece`` (15 equal-width bins) and ``ece_mass`` (15 equal-mass bins): definition ->
          ``value``, ``low``, ``high``.
        - ``auroc`` (None where all are right or all wrong), ``confidence`` (mean): definition ->
          value.
        - ``small_n``: fewer than `SMALL_N` examples.

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
    primary = confidence[primary_definition(predictions)]
    interval = partial(bootstrap_interval, resamples=resamples)
    return {
        "method": method,
        "task": predictions[0].task,
        "split": predictions[0].split,
        "seed": seed,
        "n": len(predictions),
        "accuracy": _mean(correct),
        "nll": _mean(nll),
        "brier": brier_score(primary, correct),
        "ece": _errors(confidence, correct, "width", resamples),
        "ece_mass": _errors(confidence, correct, "mass", resamples),
        "auroc": {name: _or_none(auroc(row, correct)) for name, row in confidence.items()},
        "intervals": {
            "accuracy": list(interval(_mean, correct)),
            "nll": list(interval(_mean, nll)),
            "brier": list(interval(brier_score, primary, correct)),
            "auroc": {
                name: _bounds(interval(auroc, row, correct)) for name, row in confidence.items()
            },
        },
        "confidence": {name: _mean(row) for name, row in confidence.items()},
        "small_n": len(predictions) < SMALL_N,
        "share_known": share_known,
    }


def primary_definition(predictions: Sequence[Prediction]) -> str:
    """The definition named first: ``vocab``, for open-ended answers ``mean``.

    Predictions from elsewhere may lack it; then the next of ``options``, ``surface``, ``joint``.

    Raises:
        ValueError: If there are no predictions, or they carry none of these.
    """
    given = predictions[0].confidence if predictions else {}
    ranked = (MULTIPLE_CHOICE[0], OPEN_ENDED[0], *MULTIPLE_CHOICE[1:], *OPEN_ENDED[1:])
    for name in ranked:
        if name in given:
            return name
    raise ValueError(
        f"predictions must carry a confidence among {', '.join(ranked)}, got {sorted(given)}"
    )


def _errors(
    confidence: dict[str, NDArray[np.float64]],
    correct: NDArray[np.bool_],
    binning: str,
    resamples: int,
) -> dict[str, dict[str, float]]:
    error = partial(expected_calibration_error, binning=binning)
    errors = {}
    for name, row in confidence.items():
        low, high = bootstrap_interval(error, row, correct, resamples=resamples)
        errors[name] = {"value": error(row, correct), "low": low, "high": high}
    return errors


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean())


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _bounds(interval: tuple[float, float]) -> list[float] | None:
    return None if any(map(math.isnan, interval)) else list(interval)


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
