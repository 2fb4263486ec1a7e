"""The clustered paired bootstrap: two methods on the same questions, trained with the same seeds.

Questions and seeds are both resampled, the same for both methods, and a metric is averaged over the
seeds: would a difference hold on other questions of the task after other trainings? Resampling the
questions alone (`paired_bootstrap`) asks about the models at hand.

A metric is computed on every resample of the questions by one product of matrices, once for each
method and seed: `resample_weights`, then `resampled_mean` or `resampled_ece` (`resampled_aurc`
takes a few passes over all weights). Any two methods are then compared by
`clustered_paired_bootstrap`, over the tasks of a table by `drawn_tasks_bootstrap`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cogcalib.arrays import as_array
from cogcalib.metrics._validate import check_open_fraction, check_whole
from cogcalib.metrics.bootstrap import (
    PairedDifference,
    differences_beyond_rounding,
    percentile_interval,
    two_sided_p_value,
)
from cogcalib.metrics.counted import CountedMetrics
from cogcalib.metrics.resampling import BLOCK, draw_rows
from cogcalib.metrics.selective import aurc

Floats = NDArray[np.float64]


def resample_weights(n: int, resamples: int, *, seed: int = 0) -> Floats:
    """Share of each question in each resample, [resamples, n]; every row sums to 1.

    Raises:
        ValueError: If `n` or `resamples` is not at least 1.
    """
    n, resamples = check_whole("n", n), check_whole("resamples", resamples)
    counts = np.stack([np.bincount(draw, minlength=n) for draw in draw_rows(n, resamples, seed)])
    shares: Floats = counts / n
    return shares


def resampled_mean(weights: Floats, values: Floats) -> Floats:
    """The mean of values on every resample, [resamples].

    Args:
        weights: As of `resample_weights`, [resamples, n].
        values: [n]; a mean is infinite where an infinite value was drawn (the NLL of a
            probability 0).
    """
    finite = np.isfinite(values)
    means: Floats = weights[:, finite] @ values[finite]
    means[(weights[:, ~finite] > 0).any(axis=1)] = np.inf
    return means


def resampled_ece(weights: Floats, confidence: Floats, correct: Floats, *, bins: int) -> Floats:
    """The ECE over bins of equal width on every resample, fraction, [resamples].

    It is the sum over bins of \\|sum of confidence - correct\\| / n, so that the resamples of all
    bins are one product of matrices.

    Args:
        weights: As of `resample_weights`, [resamples, n].
        confidence: Fraction, [n].
        correct: 0 or 1, [n].
        bins: Number of bins, closed on the right; 0 belongs to the first.
    """
    bin_of = np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")
    gaps = np.zeros((len(confidence), bins))
    gaps[np.arange(len(confidence)), bin_of] = confidence - correct
    errors: Floats = np.abs(weights @ gaps).sum(axis=1)
    return errors


def resampled_aurc(weights: Floats, confidence: Floats, correct: Floats) -> Floats:
    """The area under the risk-coverage curve on every resample, fraction, [resamples].

    Args:
        weights: As of `resample_weights`, [resamples, n].
        confidence: Fraction, [n].
        correct: 0 or 1, [n].
    """
    counted = CountedMetrics({"aurc": aurc}, [confidence, correct.astype(bool)])
    counts = np.rint(weights * len(confidence)).astype(np.int64)
    blocks = np.array_split(counts, max(1, counts.size // BLOCK))
    return np.concatenate([counted.on(each)["aurc"] for each in blocks])


def clustered_paired_bootstrap(
    values_a: ArrayLike,
    values_b: ArrayLike,
    draws_a: ArrayLike,
    draws_b: ArrayLike,
    *,
    level: float = 0.95,
    seed: int = 1,
) -> PairedDifference:
    """Difference of a metric between two methods, over other questions and other trainings.

    Args:
        values_a: The metric of method a with each seed, [seeds].
        values_b: That of method b with the same seeds in the same order.
        draws_a: The metric of method a on every resample of the questions, [seeds, resamples].
        draws_b: That of method b on the same resamples.
        level: Coverage of the interval, fraction in (0, 1).
        seed: Of the draws of the seeds; other than that of the questions' draws.

    Returns:
        Mean difference over the seeds with interval and p-value. Resamples on which the difference
        is nan (infinite for both methods) are left out; the interval is nan if all are.

    Raises:
        ValueError: If the shapes do not fit together, or `level` is out of range.
    """
    level = check_open_fraction("level", level)
    a, b = as_array("values_a", values_a), as_array("values_b", values_b)
    on_a, on_b = as_array("draws_a", draws_a), as_array("draws_b", draws_b)
    if not a.size or a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"values of both methods must be [seeds], got {a.shape} and {b.shape}")
    if on_a.ndim != 2 or on_a.shape != on_b.shape or len(on_a) != len(a):
        raise ValueError(
            f"draws of both methods must be [{len(a)} seeds, resamples], got {on_a.shape} and "
            f"{on_b.shape}"
        )
    drawn = np.random.default_rng(seed).integers(len(a), size=on_a.shape)
    draws = np.take_along_axis(differences_beyond_rounding(on_a, on_b), drawn, axis=0).mean(axis=0)
    value = float(differences_beyond_rounding(a, b).mean())
    interval = percentile_interval(draws, level, method="nearest")
    return PairedDifference(value, *interval, two_sided_p_value(draws))


def drawn_tasks_bootstrap(
    gaps: Sequence[ArrayLike],
    draws: Sequence[ArrayLike] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> PairedDifference:
    """Mean difference of a metric between two methods over tasks: would it hold on other tasks?

    Tasks are drawn with replacement, within each drawn task its questions, and the seeds: these
    once for all tasks, for a seed is one training, which is tested on every task. Tasks that share
    facts are not independent, and then the interval is too narrow.

    Args:
        gaps: For each task the difference with each seed, [seeds]; the same seeds for all.
        draws: For each task the same on resamples of its questions, [seeds, resamples of that
            task]; a drawn task takes one of them by chance. None: the questions are not drawn.
        level: Coverage of the interval, fraction in (0, 1).
        resamples: Number of resamples of the tasks.
        seed: Of all draws.

    Returns:
        Mean difference over tasks and seeds with interval and p-value; resamples on which it is nan
        (infinite for both methods) are left out.

    Raises:
        ValueError: If there is no task, shapes do not fit, or an argument is out of range.
    """
    level, resamples = check_open_fraction("level", level), check_whole("resamples", resamples)
    values = [as_array(f"gaps[{at}]", each) for at, each in enumerate(gaps)]
    if not values or values[0].ndim != 1 or len({each.shape for each in values}) > 1:
        shapes = ", ".join(str(list(each.shape)) for each in values)
        raise ValueError(f"gaps must be [seeds] for each task, got {shapes or 'no task'}")
    of_questions = [each[:, None] for each in values]
    if draws is not None:
        of_questions = [as_array(f"draws[{at}]", each) for at, each in enumerate(draws)]
        if [each.shape[:-1] for each in of_questions] != [each.shape for each in values]:
            shapes = ", ".join(str(list(each.shape)) for each in of_questions)
            raise ValueError(f"draws must be [{len(values[0])}, resamples] as gaps, got {shapes}")
    rng, tasks, seeds = np.random.default_rng(seed), len(values), len(values[0])
    picked = rng.integers(tasks, size=(resamples, tasks))
    trained = rng.integers(seeds, size=(resamples, seeds))
    means = np.zeros(resamples)
    for slot in range(tasks):
        columns = rng.random(resamples)
        for task, found in enumerate(of_questions):
            here = np.flatnonzero(picked[:, slot] == task)
            at = (columns[here] * found.shape[1]).astype(np.int64)
            means[here] += found[trained[here], at[:, None]].mean(axis=1)
    means /= tasks
    interval = percentile_interval(means, level)
    value = float(np.mean([each.mean() for each in values]))
    return PairedDifference(value, *interval, two_sided_p_value(means))
