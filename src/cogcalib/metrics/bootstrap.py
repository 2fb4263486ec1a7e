"""Uncertainty of a metric, and of the difference between two methods, by the bootstrap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cogcalib.arrays import as_array
from cogcalib.metrics._validate import (
    FloatVector,
    check_confidence,
    check_open_fraction,
    check_same_length,
    check_whole,
)
from cogcalib.metrics.resampling import (
    Arrays,
    Draws,
    Metric,
    ResampledMetrics,
    each_block,
    on_outcomes,
)

ROUNDING, TINY = 1e-12, 1e-15
"""A difference below this share of the larger value, or below this, is rounding: it counts as 0."""


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The difference of a metric between two methods scored on the same examples.

    Attributes:
        difference: metric(a) - metric(b), in the unit of the metric.
        low: Lower end of its interval.
        high: Upper end of its interval.
        p_value: Two-sided p-value of no difference, in (0, 1].
    """

    difference: float
    low: float
    high: float
    p_value: float

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def bootstrap_interval(
    metric: Metric,
    *arrays: ArrayLike,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a metric (Efron & Tibshirani 1993, chapter 13).

    Rows are drawn with replacement, the same rows of every array. The interval describes the
    metric's sampling spread and inherits its bias: that of an ECE, which cannot be negative, lies
    above 0 even for a perfectly calibrated model, and may then lie above the ECE itself.
    `consistency_interval` tells such an ECE from a real one.

    Args:
        metric: Takes the resampled arrays, returns a float.
        *arrays: The metric's arrays, all with n rows.
        level: Coverage, fraction in (0, 1).
        resamples: Number of resamples.
        seed: Seed of the draws; equal seeds give equal intervals.

    Returns:
        Lower and upper end, in the unit of the metric. Resamples on which the metric is nan (an
        AUROC without any wrong prediction) are left out; both ends are nan if it is nan on the
        arrays themselves, or on every resample.

    Raises:
        ValueError: If an array is empty or a scalar, lengths differ, or `level` or `resamples`
            is out of range.
    """
    one = {"metric": metric}
    return bootstrap_intervals(one, *arrays, level=level, resamples=resamples, seed=seed)["metric"]


def bootstrap_intervals(
    metrics: Mapping[str, Metric],
    *arrays: ArrayLike,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """`bootstrap_interval` of several metrics of the same arrays, each resample drawn once.

    Args:
        metrics: Name -> metric; each takes all the arrays.
        *arrays: As in `bootstrap_interval`, and so are the other arguments.

    Returns:
        Name -> lower and upper end, equal to what `bootstrap_interval` gives for that metric alone.

    Raises:
        ValueError: As `bootstrap_interval`.
    """
    groups = {"arrays": (metrics, arrays)}
    return grouped_intervals(groups, level=level, resamples=resamples, seed=seed)["arrays"]


def grouped_intervals(
    groups: Mapping[str, tuple[Mapping[str, Metric], Sequence[ArrayLike]]],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, tuple[float, float]]]:
    """`bootstrap_intervals` of several groups of metrics, each of its own arrays of the same rows.

    Args:
        groups: Name -> metrics and the arrays that they take, of as many rows in every group.
        level: As in `bootstrap_interval`, and so are the other arguments.

    Returns:
        Name -> what `bootstrap_intervals` gives for that group alone.

    Raises:
        ValueError: As `bootstrap_interval`; also if the groups' lengths differ.
    """
    level, resamples = check_open_fraction("level", level), check_whole("resamples", resamples)
    rows = {name: _rows(name, arrays) for name, (_, arrays) in groups.items()}
    n = check_same_length(**{name: arrays[0] for name, arrays in rows.items()})
    defined = {
        name: {
            each: metric for each, metric in metrics.items() if not np.isnan(metric(*rows[name]))
        }
        for name, (metrics, _) in groups.items()
    }
    resampled = {name: ResampledMetrics(each, rows[name]) for name, each in defined.items()}

    def on(draws: Draws) -> dict[str, dict[str, FloatVector]]:
        return {name: each.on(draws) for name, each in resampled.items()}

    blocks = list(each_block(on, n, resamples, seed))
    undefined = (float("nan"), float("nan"))
    return {
        name: {
            each: percentile_interval(np.concatenate([row[name][each] for row in blocks]), level)
            if each in defined[name]
            else undefined
            for each in metrics
        }
        for name, (metrics, _) in groups.items()
    }


def paired_bootstrap(
    metric: Metric,
    arrays_a: Sequence[ArrayLike],
    arrays_b: Sequence[ArrayLike],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> PairedDifference:
    """Difference of a metric between two methods, resampling the same examples for both.

    A difference that is rounding alone (`differences_beyond_rounding`) counts on both sides of 0.
    The p-value is twice the smaller share of resamples with a difference on either side of zero,
    (1 + count) / (1 + resamples) each, at most 1 (Efron & Tibshirani 1993; the added one keeps it
    above zero, Davison & Hinkley 1997).

    Args:
        metric: Takes the arrays of one method, returns a float.
        arrays_a: Arrays of method a, all with n rows; row i belongs to example i.
        arrays_b: Arrays of method b, aligned with those of a.
        level: Coverage of the interval, fraction in (0, 1).
        resamples: Number of resamples.
        seed: Seed of the draws.

    Returns:
        Difference, interval and p-value. Resamples on which the difference is nan are left out;
        everything is nan if it is nan on the arrays themselves, or on every resample.

    Raises:
        ValueError: As `bootstrap_interval`; also if the methods' lengths differ.
    """
    one = {"metric": metric}
    return paired_bootstraps(one, arrays_a, arrays_b, level=level, resamples=resamples, seed=seed)[
        "metric"
    ]


def paired_bootstraps(
    metrics: Mapping[str, Metric],
    arrays_a: Sequence[ArrayLike],
    arrays_b: Sequence[ArrayLike],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, PairedDifference]:
    """`paired_bootstrap` of several metrics of the same two methods, each resample drawn once.

    Args:
        metrics: Name -> metric; each takes all the arrays of one method.
        arrays_a: As in `paired_bootstrap`, and so are the other arguments.
        arrays_b: Arrays of method b.

    Returns:
        Name -> what `paired_bootstrap` gives for that metric alone.

    Raises:
        ValueError: As `paired_bootstrap`.
    """
    level, resamples = check_open_fraction("level", level), check_whole("resamples", resamples)
    rows_a, rows_b = _rows("arrays_a", arrays_a), _rows("arrays_b", arrays_b)
    n = check_same_length(arrays_a=rows_a[0], arrays_b=rows_b[0])
    observed = {
        name: float(differences_beyond_rounding(metric(*rows_a), metric(*rows_b)))
        for name, metric in metrics.items()
    }
    defined = {name: metrics[name] for name, each in observed.items() if not np.isnan(each)}
    of_a, of_b = ResampledMetrics(defined, rows_a), ResampledMetrics(defined, rows_b)

    def on(draws: Draws) -> dict[str, FloatVector]:
        on_a, on_b = of_a.on(draws), of_b.on(draws)
        return {name: differences_beyond_rounding(on_a[name], on_b[name]) for name in defined}

    blocks = list(each_block(on, n, resamples, seed))
    values = {name: np.concatenate([row[name] for row in blocks]) for name in defined}
    nan = float("nan")
    return {
        name: PairedDifference(
            each, *percentile_interval(values[name], level), two_sided_p_value(values[name])
        )
        if name in values
        else PairedDifference(nan, nan, nan, nan)
        for name, each in observed.items()
    }


def differences_beyond_rounding(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Values less others, those that are rounding alone set to 0; nan where both are infinite."""
    of_a, of_b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    with np.errstate(invalid="ignore"):  # infinite for both: no difference to speak of
        gaps = of_a - of_b
        larger = np.maximum(np.abs(of_a), np.abs(of_b))
        rounding = np.isfinite(gaps) & (np.abs(gaps) <= ROUNDING * larger + TINY)
    return np.where(rounding, 0.0, gaps)


def consistency_interval(
    metric: Metric,
    confidence: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Where a metric falls if the model is perfectly calibrated: its interval of zero error.

    Consistency resampling (Bröcker & Smith, Weather and Forecasting 2007): each resample keeps the
    confidences and draws every prediction correct with exactly that probability. An ECE inside the
    interval is what chance alone produces at this n; one above it is miscalibration.

    Args:
        metric: Takes confidence and correct, returns a float.
        confidence: Confidence of each prediction, fraction, [n].
        level: Coverage, fraction in (0, 1).
        resamples: Number of resamples.
        seed: Seed of the draws.

    Returns:
        Lower and upper end, in the unit of the metric; resamples on which the metric
        is nan are left out, and both ends are nan if none is left.

    Raises:
        ValueError: For a malformed `confidence`, `level` or `resamples` out of range, and what
            the metric refuses.
    """
    level, resamples = check_open_fraction("level", level), check_whole("resamples", resamples)
    confidences = check_confidence(confidence)
    metric(confidences, np.ones(len(confidences), dtype=bool))  # refuses arguments out of range
    blocks = list(on_outcomes(metric, confidences, resamples, seed))
    return percentile_interval(np.concatenate(blocks), level)


def _rows(name: str, arrays: Sequence[ArrayLike]) -> Arrays:
    rows = [as_array(f"{name}[{i}]", array) for i, array in enumerate(arrays)]
    if not rows or any(array.ndim == 0 for array in rows):
        raise ValueError(f"{name} must hold at least one array and no scalars, got {len(rows)}")
    check_same_length(**{f"{name}[{i}]": array for i, array in enumerate(rows)})
    return rows


def percentile_interval(
    values: NDArray[np.float64], level: float, *, method: Literal["linear", "nearest"] = "linear"
) -> tuple[float, float]:
    """Quantiles that leave equal tails of the values that are not nan; nan without any."""
    defined = values[~np.isnan(values)]
    if defined.size == 0:
        return float("nan"), float("nan")
    # Between two infinities (of an NLL) there is nothing to interpolate.
    method = method if np.isfinite(defined).all() else "nearest"
    ends = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
    low, high = np.quantile(defined, ends, method=method)
    return float(low), float(high)


def two_sided_p_value(differences: NDArray[np.float64]) -> float:
    """Twice the smaller share on either side of zero, one added to each; nan without any."""
    defined = differences[~np.isnan(differences)]
    if defined.size == 0:
        return float("nan")
    smaller = min(int((defined <= 0.0).sum()), int((defined >= 0.0).sum()))
    return min(1.0, 2.0 * (1 + smaller) / (1 + defined.size))
