"""Metrics and reliability of confidences on a set of questions, as `calibration.json` has them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cogcalib.deployment.calibration_file import HISTOGRAM_BINS, ReliabilityBins, SplitMetrics
from cogcalib.metrics import (
    bootstrap_interval,
    evaluate,
    mean,
    reliability_curve,
    standard_metrics,
)

NAMES = ("accuracy", "brier", "ece", "aurc")


@dataclass(frozen=True, slots=True, eq=False)
class Graded:
    """Answers to a set of questions beside what is correct.

    Attributes:
        confidence: Of each answer, a fraction, [n].
        correct: Whether each answer is right, [n].
        nll: Negative log-probability of each gold answer, nats, [n]; None where it is not defined.
    """

    confidence: ArrayLike
    correct: ArrayLike
    nll: ArrayLike | None = None


def split_metrics(
    split: str, sha256: str, raw: Graded, calibrated: Graded | None = None, *, resamples: int = 1000
) -> SplitMetrics:
    """The metrics of one set of questions with 95 % bootstrap intervals, and its reliability bins.

    Args:
        split: Name of the set.
        sha256: Of its questions.
        raw: By the model's own confidence.
        calibrated: Behind the map, on the same questions; None without one.
        resamples: Bootstrap resamples per interval.

    Raises:
        ValueError: For malformed arrays, or sets of different length.
    """
    n = len(np.asarray(raw.confidence))
    if calibrated is not None and len(np.asarray(calibrated.confidence)) != n:
        raise ValueError("raw and calibrated must be of the same questions")
    return SplitMetrics(
        split,
        n,
        sha256,
        _metrics(raw, resamples),
        _metrics(calibrated, resamples) if calibrated else {},
        reliability_bins(raw.confidence, raw.correct),
        reliability_bins(calibrated.confidence, calibrated.correct) if calibrated else None,
    )


def reliability_bins(confidence: ArrayLike, correct: ArrayLike) -> ReliabilityBins:
    """The reliability curve over 15 bins of equal width, 0 where a bin is empty.

    Raises:
        ValueError: As `cogcalib.metrics.reliability_curve`.
    """
    curve = reliability_curve(confidence, correct)
    return ReliabilityBins(
        tuple(int(each) for each in curve.count),
        tuple(float(each) for each in np.nan_to_num(curve.confidence)),
        tuple(float(each) for each in np.nan_to_num(curve.accuracy)),
    )


def confidence_histogram(confidence: ArrayLike) -> tuple[float, ...]:
    """Share of confidences in each of 20 bins of equal width, closed on the right."""
    values = np.asarray(confidence, dtype=np.float64)
    counts = reliability_curve(values, np.zeros(len(values), bool), bins=HISTOGRAM_BINS).count
    return tuple(float(each) for each in counts / max(len(values), 1))


def _metrics(graded: Graded, resamples: int) -> dict[str, dict[str, float]]:
    every = standard_metrics()
    chosen = {name: every[name] for name in NAMES}
    found = evaluate(graded.confidence, graded.correct, metrics=chosen, resamples=resamples)
    rows = {
        name: {"value": each.value, "low": each.low, "high": each.high}
        for name, each in found.metrics.items()
    }
    if graded.nll is not None:
        nll = np.asarray(graded.nll, dtype=np.float64)
        low, high = bootstrap_interval(mean, nll, resamples=resamples)
        rows["nll"] = {"value": mean(nll), "low": low, "high": high}
    # A gold answer of probability 0 has no NLL, and JSON no number for it.
    return {name: row for name, row in rows.items() if all(map(math.isfinite, row.values()))}
