"""Resamples of rows, and metrics on each of them."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cogcalib.metrics.counted import MANY, counted_metrics

THREADS = 4
"""Most resamples of many rows worked on at once."""

FEWEST_RESAMPLES = 250
"""Resamples of an interval however many rows there are: its ends are then 0.17 of its standard
error off."""

T = TypeVar("T")
Metric = Callable[..., float]
Arrays = list[NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Draw:
    """The rows of one resample.

    Attributes:
        rows: In the order drawn, [n].
        counts: How often each row was drawn, [n], as small integers.
    """

    rows: NDArray[np.int64]
    counts: NDArray[np.integer[Any]]


class ResampledMetrics:
    """Metrics on any number of resamples of the same arrays."""

    def __init__(self, metrics: Mapping[str, Metric], arrays: Arrays) -> None:
        counted = counted_metrics(list(metrics.values()), arrays)
        pairs = list(zip(metrics, counted, strict=True))
        self._arrays = arrays
        self._counted = {name: metric for name, metric in pairs if metric is not None}
        self._others = {name: metrics[name] for name, metric in pairs if metric is None}

    def on(self, draw: Draw) -> dict[str, float]:
        """Name -> the metric on a resample."""
        found = {name: metric(draw.counts) for name, metric in self._counted.items()}
        if self._others:
            drawn = [array[draw.rows] for array in self._arrays]
            found |= {name: metric(*drawn) for name, metric in self._others.items()}
        return found


def each_draw(work: Callable[[Draw], T], n: int, resamples: int, seed: int) -> Iterator[T]:
    """`work` on every resample of `draw_rows`, in their order; of many rows, a few at once.

    numpy works outside the interpreter's lock, so that threads share it among processor cores.
    """

    def of(rows: NDArray[np.int64]) -> T:
        counts = np.bincount(rows, minlength=n)
        small = np.uint8 if counts.max() <= np.iinfo(np.uint8).max else np.int64
        return work(Draw(rows, counts.astype(small)))

    drawn = draw_rows(n, resamples, seed)
    if n < MANY:
        yield from map(of, drawn)
        return
    threads = min(THREADS, os.cpu_count() or 1)
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads, "cogcalib-bootstrap") as pool:
        for rows in drawn:
            waiting.append(pool.submit(of, rows))
            # One is drawn while the others are worked on, and no more: each takes as much memory
            # as the arrays.
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def draw_rows(n: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Rows drawn with replacement, [n] for each resample."""
    generator = np.random.default_rng(seed)
    return (generator.integers(n, size=n) for _ in range(resamples))


def enough_resamples(n: int, most: int) -> int:
    """As many resamples of `n` rows as show in a printed interval; at most `most`.

    An end of a percentile interval of `B` resamples is itself uncertain, by the standard error of
    a quantile: ``sqrt(p (1 - p) / B) / phi(z_p)`` = ``2.67 s / sqrt(B)`` at the 2.5th percentile of
    a normal distribution of standard deviation s (Serfling 1980, section 2.3). The mean of numbers
    in [0, 1] has ``s <= 0.5 / sqrt(n)``. ``n B >= 1e8`` thus keeps that error below 0.014
    percentage points, a seventh of the last digit printed.
    """
    return min(most, max(FEWEST_RESAMPLES, math.ceil(1e8 / n)))
