"""Two methods on the same questions and seeds: differences and their intervals.

Questions and seeds are both resampled, the same for both methods, and a metric is averaged over the
seeds: what is asked is whether a difference would hold on other questions of the task after other
trainings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cogcalib.metrics import expected_calibration_error
from cogcalib.records import Prediction
from cogcalib.scoring import MULTIPLE_CHOICE, OPEN_ENDED

RESAMPLES = 2000
BINS = 15
LEVEL = 0.95
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Resampled:
    """The metrics of a method by seed, and on every resample of the questions.

    Attributes:
        seeds: The seeds, in order.
        values: Metric (``accuracy``, ``nll``, ``brier``, ``ece.vocab`` ...) -> value by seed,
            [seeds]; fractions, nats.
        draws: Metric -> values on the resamples, [seeds, resamples]; the same resamples for every
            method on the same questions.
    """

    seeds: tuple[int, ...]
    values: Mapping[str, Floats]
    draws: Mapping[str, Floats]

    def without(self, metric: str) -> Resampled:
        """All but a metric."""
        values, draws = (
            {name: each for name, each in held.items() if name != metric}
            for held in (self.values, self.draws)
        )
        return Resampled(self.seeds, values, draws)

    def mean(self, metric: str) -> float:
        """Mean over the seeds."""
        return float(self.values[metric].mean())


@dataclass(frozen=True)
class Difference:
    """Metric of one method minus that of another, with its 95 % interval.

    Attributes:
        value: The difference, in the unit of the metric.
        low, high: Ends of the interval.
    """

    value: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def resample(runs: Mapping[int, Sequence[Prediction]], resamples: int = RESAMPLES) -> Resampled:
    """The metrics of one method on one task's split, from its predictions of every seed.

    An equal-width ECE is the sum over bins of \\|sum of confidence - correct\\| / n, so that the
    resamples of all bins are one product of matrices.

    Args:
        runs: Seed -> predictions, of every seed on the same questions.
        resamples: Number of resamples.

    Raises:
        ValueError: If the seeds answer different questions.
    """
    first = next(iter(runs.values()))
    ids = sorted(row.id for row in first)
    if any(sorted(row.id for row in run) != ids for run in runs.values()):
        raise ValueError("predictions of all seeds must answer the same questions")
    weights = _weights(len(ids), resamples)
    values: dict[str, list[float]] = {}
    draws: dict[str, list[Floats]] = {}
    for run in runs.values():
        rows = sorted(run, key=lambda row: row.id)
        correct = np.array([row.correct for row in rows], dtype=np.float64)
        known = (*MULTIPLE_CHOICE, *OPEN_ENDED)
        confidence = {
            name: np.array([row.confidence[name] for row in rows])
            for name in sorted(rows[0].confidence, key=known.index)
        }
        primary = next(iter(confidence.values()))
        linear = {
            "accuracy": correct,
            "nll": np.array([row.nll for row in rows]),
            "brier": (primary - correct) ** 2,
        }
        for name, column in linear.items():
            values.setdefault(name, []).append(float(column.mean()))
            draws.setdefault(name, []).append(_means(weights, column))
        for name, row in confidence.items():
            metric = f"ece.{name}"
            value = expected_calibration_error(row, correct.astype(bool), bins=BINS)
            values.setdefault(metric, []).append(value)
            draws.setdefault(metric, []).append(
                np.abs(weights @ _gaps_by_bin(row, correct)).sum(axis=1)
            )
    return Resampled(
        tuple(runs),
        {name: np.array(each) for name, each in values.items()},
        {name: np.array(each) for name, each in draws.items()},
    )


def difference(one: Resampled, other: Resampled, metric: str) -> Difference:
    """`one` minus `other`, over the seeds that both have.

    Raises:
        ValueError: If there is none.
    """
    seeds = [seed for seed in one.seeds if seed in other.seeds]
    if not seeds:
        raise ValueError(f"two methods must share seeds, got {one.seeds} and {other.seeds}")
    at = [[each.seeds.index(seed) for seed in seeds] for each in (one, other)]
    drawn = _seeds(len(seeds), one.draws[metric].shape[1])
    with np.errstate(invalid="ignore"):  # infinite on both sides: no difference to speak of
        by_seed = one.draws[metric][at[0]] - other.draws[metric][at[1]]
        draws = np.take_along_axis(by_seed, drawn, axis=0).mean(axis=0)
        value = float((one.values[metric][at[0]] - other.values[metric][at[1]]).mean())
    draws = draws[~np.isnan(draws)]
    if not draws.size:
        return Difference(float("nan"), float("nan"), float("nan"))
    tail = (1 - LEVEL) / 2
    # Between two infinities (of an NLL) there is nothing to interpolate.
    low, high = np.quantile(draws, [tail, 1 - tail], method="nearest")
    return Difference(value, float(low), float(high))


def _seeds(n: int, resamples: int) -> NDArray[np.int64]:
    """Places of the seeds in each resample, [n, resamples]."""
    return np.random.default_rng(1).integers(n, size=(n, resamples))


def _weights(n: int, resamples: int) -> Floats:
    """Share of each question in each resample, [resamples, n]."""
    drawn = np.random.default_rng(0).integers(n, size=(resamples, n))
    counts = np.stack([np.bincount(row, minlength=n) for row in drawn])
    shares: Floats = counts / n
    return shares


def _means(weights: Floats, column: Floats) -> Floats:
    """Weighted means; infinite where an infinite value (an NLL of a probability 0) was drawn."""
    finite = np.isfinite(column)
    means: Floats = weights[:, finite] @ column[finite]
    means[(weights[:, ~finite] > 0).any(axis=1)] = np.inf
    return means


def _gaps_by_bin(confidence: Floats, correct: Floats) -> Floats:
    """Confidence minus correctness, each in the column of its bin, [n, bins]."""
    # Bins are closed on the right; 0 belongs to the first.
    bins = np.searchsorted(np.arange(1, BINS) / BINS, confidence, side="left")
    gaps = np.zeros((len(confidence), BINS))
    gaps[np.arange(len(confidence)), bins] = confidence - correct
    return gaps
