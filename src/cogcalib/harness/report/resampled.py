"""Predictions of two methods on the same questions and seeds: differences with intervals.

The bootstrap is `cogcalib.metrics.clustered_paired_bootstrap`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cogcalib.metrics import (
    PairedDifference,
    aurc,
    clustered_paired_bootstrap,
    expected_calibration_error,
    resample_weights,
    resampled_aurc,
    resampled_ece,
    resampled_mean,
)
from cogcalib.records import Prediction
from cogcalib.scoring import ranked

RESAMPLES = 2000
BINS = 15
ROUNDING = 1e-6
"""Differences below are of the arithmetic, far smaller than any digit shown."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Resampled:
    """The metrics of a method by seed, and on every resample of the questions.

    Attributes:
        seeds: The seeds, in order.
        ids: The questions, sorted.
        values: Metric (``accuracy``, ``nll``, ``brier``, ``ece.vocab`` ...) -> value by seed,
            [seeds]; fractions, nats.
        draws: Metric -> values on the resamples, [seeds, resamples]; the same resamples for every
            method on the same questions. The AURC may have fewer.
    """

    seeds: tuple[int, ...]
    ids: tuple[str, ...]
    values: Mapping[str, Floats]
    draws: Mapping[str, Floats]

    def without(self, metric: str) -> Resampled:
        """All but a metric."""
        values, draws = (
            {name: each for name, each in held.items() if name != metric}
            for held in (self.values, self.draws)
        )
        return Resampled(self.seeds, self.ids, values, draws)

    def mean(self, metric: str) -> float:
        """Mean over the seeds."""
        return float(self.values[metric].mean())


def resample(
    runs: Mapping[int, Sequence[Prediction]],
    resamples: int = RESAMPLES,
    *,
    ranking: int = 0,
    weights: Floats | None = None,
) -> Resampled:
    """The metrics of one method on one task's split, from its predictions of every seed.

    Args:
        runs: Seed -> predictions, of every seed on the same questions.
        resamples: Number of resamples.
        ranking: Compute the AURC as well, of the primary confidence as the Brier score is, on the
            first so many resamples: each takes fifteen times as long as that of an ECE.
        weights: Of the resamples, as `resample_weights` gives them, where another method on as many
            questions has drawn them.

    Raises:
        ValueError: If the seeds answer different questions.
    """
    first = next(iter(runs.values()))
    ids = sorted(row.id for row in first)
    if any(sorted(row.id for row in run) != ids for run in runs.values()):
        raise ValueError("predictions of all seeds must answer the same questions")
    if weights is None:
        weights = resample_weights(len(ids), resamples)
    values: dict[str, list[float]] = {}
    draws: dict[str, list[Floats]] = {}
    for run in runs.values():
        rows = sorted(run, key=lambda row: row.id)
        correct = np.array([row.correct for row in rows], dtype=np.float64)
        confidence = {
            name: np.array([row.confidence[name] for row in rows])
            for name in ranked(rows[0].confidence)
        }
        primary = next(iter(confidence.values()))
        linear = {
            "accuracy": correct,
            "nll": np.array([row.nll for row in rows]),
            "brier": (primary - correct) ** 2,
        }
        for name, column in linear.items():
            values.setdefault(name, []).append(float(column.mean()))
            draws.setdefault(name, []).append(resampled_mean(weights, column))
        if ranking:
            values.setdefault("aurc", []).append(aurc(primary, correct.astype(bool)))
            on_some = resampled_aurc(weights[:ranking], primary, correct)
            draws.setdefault("aurc", []).append(on_some)
        for name, row in confidence.items():
            metric = f"ece.{name}"
            value = expected_calibration_error(row, correct.astype(bool), bins=BINS)
            values.setdefault(metric, []).append(value)
            draws.setdefault(metric, []).append(resampled_ece(weights, row, correct, bins=BINS))
    return Resampled(
        tuple(runs),
        tuple(ids),
        {name: np.array(each) for name, each in values.items()},
        {name: np.array(each) for name, each in draws.items()},
    )


def is_equal(found: PairedDifference) -> bool:
    """Whether a difference and both ends of its interval are 0 but for rounding."""
    return all(abs(each) < ROUNDING for each in (found.difference, found.low, found.high))


def difference(one: Resampled, other: Resampled, metric: str) -> PairedDifference:
    """`one` minus `other`, over the seeds that both have.

    Raises:
        ValueError: If there is none.
    """
    seeds = [seed for seed in one.seeds if seed in other.seeds]
    if not seeds:
        raise ValueError(f"two methods must share seeds, got {one.seeds} and {other.seeds}")
    a, b = ([each.seeds.index(seed) for seed in seeds] for each in (one, other))
    return clustered_paired_bootstrap(
        one.values[metric][a], other.values[metric][b], one.draws[metric][a], other.draws[metric][b]
    )
