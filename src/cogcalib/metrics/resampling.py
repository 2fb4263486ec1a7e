"""Resamples of rows, and metrics on each of them."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cogcalib.metrics._validate import FloatVector
from cogcalib.metrics.counted import CountedMetrics
from cogcalib.metrics.counted_rows import Counts

MANY = 10_000
"""Rows from which resamples are worked on one at a time, several in threads."""

BLOCK = 1 << 17
"""Drawn rows worked on at once, where a resample has fewer than `MANY`."""

KEPT = 1 << 24
"""Bytes, more than the arrays of a block take."""

THREADS = 4
"""Most resamples of many rows worked on at once."""

FEWEST_RESAMPLES = 250
"""Resamples of an interval however many rows there are: its ends are then 0.17 of its standard
error off."""

T = TypeVar("T")
Metric = Callable[..., float]
Arrays = list[NDArray[np.generic]]


@dataclass(frozen=True)
class Draws:
    """The rows of one resample or several.

    Attributes:
        rows: Of each resample, in the order drawn, [resamples, n].
    """

    rows: NDArray[np.int64]

    @cached_property
    def counts(self) -> Counts:
        """How often each row was drawn, [resamples, n], as small integers where they suffice."""
        number, n = self.rows.shape
        cells = self.rows + np.arange(number)[:, np.newaxis] * n
        found = np.bincount(cells.ravel(), minlength=number * n).reshape(number, n)
        return found.astype(np.uint8) if found.max() <= np.iinfo(np.uint8).max else found


class ResampledMetrics:
    """Metrics on any number of resamples of the same arrays."""

    def __init__(self, metrics: Mapping[str, Metric], arrays: Arrays) -> None:
        self._arrays = arrays
        self._counted = CountedMetrics(metrics, arrays)
        self._others = {
            name: each for name, each in metrics.items() if name not in self._counted.names
        }

    def on(self, draws: Draws) -> dict[str, FloatVector]:
        """Name -> the metric on each resample, [resamples]."""
        found = self._counted.on(draws.counts) if self._counted.names else {}
        if self._others:
            drawn = [[array[rows] for array in self._arrays] for rows in draws.rows]
            for name, metric in self._others.items():
                found[name] = np.array([metric(*arrays) for arrays in drawn])
        return found


def each_block(work: Callable[[Draws], T], n: int, resamples: int, seed: int) -> Iterator[T]:
    """`work` on all resamples of `draw_rows`, in their order, of few rows many at once.

    Of many rows each has its thread: numpy works outside the interpreter's lock, so that threads
    share it among processor cores.
    """
    blocks = _blocks(n, resamples, seed)
    if n < MANY:
        # The C library goes by the largest piece given back to it in how much it keeps. The memory
        # of a block is got from the system but once then, which else takes as long as the work.
        np.empty(KEPT, dtype=np.uint8)
        yield from map(work, blocks)
        return
    threads = min(THREADS, os.cpu_count() or 1)
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads, "cogcalib-bootstrap") as pool:
        for block in blocks:
            waiting.append(pool.submit(work, block))
            # One is drawn while the others are worked on, and no more: each takes several times the
            # memory of the arrays.
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def on_outcomes(
    metric: Metric, confidences: FloatVector, resamples: int, seed: int
) -> Iterator[FloatVector]:
    """A metric where each prediction is correct with just its confidence, [resamples] in blocks."""
    n, generator = len(confidences), np.random.default_rng(seed)
    counted = CountedMetrics({"metric": metric}, [confidences, np.ones(n, dtype=bool)])
    at_once = max(1, BLOCK // n)
    for start in range(0, resamples, at_once):
        correct = generator.random((min(at_once, resamples - start), n)) < confidences
        if counted.names:
            yield counted.on(np.ones(correct.shape, dtype=np.uint8), correct)["metric"]
        else:
            yield np.array([metric(confidences, each) for each in correct])


def draw_rows(n: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Rows drawn with replacement, [n] for each resample."""
    generator = np.random.default_rng(seed)
    return (generator.integers(n, size=n) for _ in range(resamples))


def _blocks(n: int, resamples: int, seed: int) -> Iterator[Draws]:
    """The resamples of `draw_rows`; of few rows as many at once as `BLOCK` has room for."""
    generator = np.random.default_rng(seed)
    at_once = max(1, BLOCK // n) if n < MANY else 1
    for start in range(0, resamples, at_once):
        yield Draws(generator.integers(n, size=(min(at_once, resamples - start), n)))


def enough_resamples(n: int, most: int) -> int:
    """As many resamples of `n` rows as show in a printed interval; at most `most`.

    An end of a percentile interval of `B` resamples is itself uncertain, by the standard error of
    a quantile: ``sqrt(p (1 - p) / B) / phi(z_p)`` = ``2.67 s / sqrt(B)`` at the 2.5th percentile of
    a normal distribution of standard deviation s (Serfling 1980, section 2.3). The mean of numbers
    in [0, 1] has ``s <= 0.5 / sqrt(n)``. ``n B >= 1e8`` thus keeps that error below 0.014
    percentage points, a seventh of the last digit printed.
    """
    return min(most, max(FEWEST_RESAMPLES, math.ceil(1e8 / n)))
