"""Metrics from counts of sorted rows equal the metrics of the drawn rows."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogcalib.metrics import (
    bootstrap_intervals,
    maximum_calibration_error,
    mean,
    paired_bootstraps,
    standard_metrics,
)
from cogcalib.metrics import resampling as resampling_module
from cogcalib.metrics.counted import counted_metrics
from cogcalib.metrics.resampling import MANY, Draws, ResampledMetrics, draw_rows, each_block

METRICS = standard_metrics()
EXACT = METRICS.keys() - {"brier", "ece", "ece_mass", "mce", "smooth_ece"}


MASS = {"mce_mass": partial(maximum_calibration_error, bins=7, binning="mass")}


@st.composite
def predictions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Confidences with ties, on edges of bins, or all different."""
    n = draw(st.integers(1, 60))
    source = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    few = [0.0, 1 / 15, 0.2, 0.37, 0.4, 0.9, 1.0]
    confidence = source.choice(few, n) if draw(st.booleans()) else source.random(n)
    return confidence, source.random(n) < draw(st.sampled_from([0.0, 0.6, 1.0]))


@given(predictions(), st.integers(0, 99), st.sampled_from([1, 3, 8, 64]))
def test_every_metric_equals_that_of_the_drawn_rows(rows, seed, block):
    """However many rows are worked on at once."""
    metrics = METRICS | MASS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cogcalib.metrics.counted_rows.BLOCK", block)
        # In either order: some metrics are found sooner behind others.
        counted = counted_metrics(metrics, list(rows))
        again = counted_metrics(dict(reversed(metrics.items())), list(rows))
    for draw in draw_rows(len(rows[0]), 5, seed):
        counts = np.bincount(draw, minlength=len(rows[0]))
        drawn = [array[draw] for array in rows]
        found = {name: on_counts(counts) for name, on_counts in counted.items()}
        turned = {name: on_counts(counts) for name, on_counts in again.items()}
        for name, plain in metrics.items():
            values = [found[name], turned[name]]
            exact = name in EXACT
            expected = plain(*drawn)
            assert values == pytest.approx(
                [expected, expected],
                rel=0 if exact else 1e-9,
                abs=0 if exact else 1e-9,
                nan_ok=True,
            ), name


def test_of_many_rows_intervals_and_differences_agree_to_rounding():
    rng = np.random.default_rng(0)
    a, b = ((rng.random(MANY), rng.random(MANY) < 0.6) for _ in range(2))
    unknown = {name: lambda *drawn, each=each: each(*drawn) for name, each in METRICS.items()}
    found = bootstrap_intervals(METRICS, *a, resamples=10)
    for name, interval in bootstrap_intervals(unknown, *a, resamples=10).items():
        assert found[name] == pytest.approx(interval, rel=1e-9), name
        assert name not in EXACT or found[name] == interval
    ours, plain = (paired_bootstraps(each, a, b, resamples=10) for each in (METRICS, unknown))
    for name, each in plain.items():
        assert ours[name].low == pytest.approx(each.low, rel=1e-8), name
        assert ours[name].p_value == each.p_value


def test_rows_are_sorted_once_whatever_the_number_of_resamples(monkeypatch):
    """A million predictions took twelve minutes to report: each resample was sorted anew."""
    rng = np.random.default_rng(0)
    rows = rng.random(2 * MANY), rng.random(2 * MANY) < 0.6
    sorts = []
    for name in ("argsort", "sort", "partition"):
        plain = getattr(np, name)

        def counting(*arguments, plain=plain, **named):
            sorts.append(len(np.atleast_1d(arguments[0])))
            return plain(*arguments, **named)

        monkeypatch.setattr(np, name, counting)
    bootstrap_intervals(METRICS, *rows, resamples=40)
    assert sum(size >= 2 * MANY for size in sorts) < 15


def test_a_mean_may_be_infinite():
    values = np.zeros(MANY)
    values[0] = np.inf
    draws = np.stack(list(draw_rows(MANY, 6, 0)))
    found = ResampledMetrics({"nll": mean}, [values]).on(Draws(draws))["nll"]
    assert found.tolist() == values[draws].mean(axis=1).tolist()


@pytest.mark.parametrize("threads", [1, 3])
def test_resamples_come_in_order_however_many_threads(monkeypatch, threads):
    monkeypatch.setattr(resampling_module, "THREADS", threads)
    first = list(each_block(lambda draws: int(draws.rows[0, 0]), MANY, 7, 3))
    assert first == [int(rows[0]) for rows in draw_rows(MANY, 7, 3)]


def test_counts_above_a_byte_are_kept():
    assert Draws(np.arange(300)[np.newaxis]).counts[0].dtype == np.uint8
    (many,) = Draws(np.zeros((1, 300), dtype=np.int64)).counts
    assert many[0] == 300
    rows = np.linspace(0, 1, 1300), np.arange(1300) % 3 == 0
    metric = counted_metrics({"aurc": METRICS["aurc"]}, list(rows))["aurc"]
    counts = np.zeros(1300, dtype=np.int64)
    counts[[0, 7]] = 1000, 300
    expanded = [np.repeat(array, counts) for array in rows]
    assert metric(counts) == METRICS["aurc"](*expanded)


def test_a_partial_that_fixes_positions_is_left_alone():
    rows = [np.linspace(0, 1, 4), np.ones(4, dtype=bool)]
    odd = partial(METRICS["aurc"], rows[0])
    assert counted_metrics({"odd": odd}, rows) == {}
