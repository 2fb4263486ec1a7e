"""All metrics of one run with their intervals, and of two runs on the same examples compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from numpy.typing import ArrayLike

from cogcalib.metrics._validate import check_predictions
from cogcalib.metrics.bootstrap import (
    Metric,
    PairedDifference,
    bootstrap_intervals,
    paired_bootstraps,
)
from cogcalib.metrics.calibration import expected_calibration_error, maximum_calibration_error
from cogcalib.metrics.scores import accuracy as accuracy_of
from cogcalib.metrics.scores import auroc, brier_score
from cogcalib.metrics.selective import (
    accuracy_at_coverage,
    aurc,
    coverage_at_accuracy,
    selective_accuracy,
)
from cogcalib.metrics.smooth import smooth_calibration_error

SMALL_N = 500
"""Below this many predictions a result is flagged: its calibration error is mostly noise."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric with its bootstrap interval, in the unit of the metric; nan where undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The metrics of one run.

    Attributes:
        n: Number of predictions.
        metrics: Name -> estimate.
    """

    n: int
    metrics: Mapping[str, Estimate]

    @property
    def small_n(self) -> bool:
        """Whether n is below `SMALL_N`."""
        return self.n < SMALL_N


def standard_metrics(
    *, bins: int = 15, coverage: float = 0.8, accuracy: float = 0.95, threshold: float = 0.9
) -> dict[str, Metric]:
    """Every metric of confidence and correctness, by name.

    Args:
        bins: Number of bins of ``ece`` and ``mce`` (equal width) and ``ece_mass`` (equal mass).
        coverage: Share of predictions that ``accuracy_at_coverage`` answers.
        accuracy: Accuracy that ``coverage_at_accuracy`` wants.
        threshold: Least confidence at which ``selective_accuracy`` answers.

    Returns:
        Name -> function of confidence [n] and correct [n]: the above, ``accuracy``, ``smooth_ece``,
        ``brier``, ``auroc`` and ``aurc``. All fractions.
    """
    return {
        "accuracy": accuracy_of,
        "ece": partial(expected_calibration_error, bins=bins),
        "ece_mass": partial(expected_calibration_error, bins=bins, binning="mass"),
        "smooth_ece": smooth_calibration_error,
        "mce": partial(maximum_calibration_error, bins=bins),
        "brier": brier_score,
        "auroc": auroc,
        "aurc": aurc,
        "accuracy_at_coverage": partial(accuracy_at_coverage, coverage=coverage),
        "coverage_at_accuracy": partial(coverage_at_accuracy, accuracy=accuracy),
        "selective_accuracy": partial(selective_accuracy, threshold=threshold),
    }


def evaluate(
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    metrics: Mapping[str, Metric] | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Every metric of one run with its bootstrap interval, from the same resamples.

    The NLL, which depends on the correct answer's probability and not on the confidence, has its
    interval from ``bootstrap_interval(negative_log_likelihood, gold_logprob)``.

    Args:
        confidence: Confidence of each prediction, fraction, [n].
        correct: Whether each prediction is correct, bool or 0/1, [n].
        metrics: Name -> function of the two arrays; `standard_metrics` if None.
        level: Coverage of the intervals, fraction in (0, 1).
        resamples: Number of bootstrap resamples.
        seed: Seed of the draws.

    Raises:
        ValueError: For malformed arrays, or `level` or `resamples` out of range.
    """
    arrays = check_predictions(confidence, correct)
    chosen = standard_metrics() if metrics is None else metrics
    intervals = bootstrap_intervals(chosen, *arrays, level=level, resamples=resamples, seed=seed)
    estimates = {name: Estimate(chosen[name](*arrays), *intervals[name]) for name in chosen}
    return Evaluation(len(arrays[0]), estimates)


def compare(
    one: tuple[ArrayLike, ArrayLike],
    other: tuple[ArrayLike, ArrayLike],
    *,
    metrics: Mapping[str, Metric] | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, PairedDifference]:
    """Every metric of one run minus that of another on the same examples, by paired bootstrap.

    Args:
        one: Confidence [n] and correct [n] of a run; row i belongs to example i.
        other: The same of the other run, in the same order of examples.
        metrics: Name -> function of the two arrays; `standard_metrics` if None.
        level: Coverage of the intervals, fraction in (0, 1).
        resamples: Number of bootstrap resamples.
        seed: Seed of the draws.

    Returns:
        Name -> difference with interval and p-value. Of the many p-values some are small by
        chance: choose the metric to judge by before looking.

    Raises:
        ValueError: For malformed arrays, runs of different length, or `level` or `resamples` out of
            range.
    """
    chosen = standard_metrics() if metrics is None else metrics
    arrays = check_predictions(*one), check_predictions(*other)
    return paired_bootstraps(chosen, *arrays, level=level, resamples=resamples, seed=seed)
