"""Metrics from counts of sorted rows equal the metrics of the drawn rows, to rounding."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogcalib.metrics import (
    accuracy_at_coverage,
    bootstrap_intervals,
    consistency_interval,
    expected_calibration_error,
    maximum_calibration_error,
    mean,
    negative_log_likelihood,
    paired_bootstraps,
    standard_metrics,
)
from cogcalib.metrics import counted as counted_module
from cogcalib.metrics import resampling as resampling_module
from cogcalib.metrics.counted import CountedMetrics
from cogcalib.metrics.resampling import MANY, Draws, ResampledMetrics, draw_rows, each_block

METRICS = {
    **standard_metrics(),
    "ece_one_bin": partial(expected_calibration_error, bins=1, binning="mass"),
    "mce_mass": partial(maximum_calibration_error, bins=7, binning="mass"),
    "accuracy_at_all": partial(accuracy_at_coverage, coverage=1.0),
}
EXACT = {"accuracy", "auroc", "coverage_at_accuracy", "selective_accuracy"}
"""Whole numbers divided once."""


def near(expected):
    return pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)


def hidden(metrics: dict[str, object]) -> dict[str, object]:
    """The same metrics as functions of somebody else's, which are called on each resample."""
    return {name: lambda *drawn, each=each: each(*drawn) for name, each in metrics.items()}


@st.composite
def predictions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Confidences with ties, on edges of bins, all different, or all but certain."""
    n = draw(st.integers(1, 60))
    source = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    few = [0.0, 1 / 15, 0.2, 0.37, 0.4, 0.9, 1.0]
    confidence = draw(
        st.sampled_from(
            [source.choice(few, n), source.random(n), 1 - 10 ** -source.uniform(1, 9, n)]
        )
    )
    return confidence, source.random(n) < draw(st.sampled_from([0.0, 0.6, 1.0]))


@given(predictions(), st.integers(0, 99), st.sampled_from([1, 64]))
def test_every_metric_is_that_of_the_drawn_rows(rows, seed, grids):
    draws = Draws(np.stack(list(draw_rows(len(rows[0]), 5, seed))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counted_module, "GRIDS", grids)
        found = CountedMetrics(METRICS, list(rows)).on(draws.counts)
        # In the other order: some metrics are found sooner behind others.
        turned = CountedMetrics(dict(reversed(METRICS.items())), list(rows)).on(draws.counts)
    assert found.keys() == METRICS.keys()
    for name, metric in METRICS.items():
        expected = [metric(*(array[drawn] for array in rows)) for drawn in draws.rows]
        assert found[name].tolist() == near(expected), name
        np.testing.assert_array_equal(turned[name], found[name], err_msg=name)
        if name in EXACT:
            np.testing.assert_array_equal(found[name], expected, err_msg=name)


@given(predictions(), st.integers(0, 99))
def test_every_metric_is_that_of_given_outcomes(rows, seed):
    confidence, _ = rows
    correct = np.random.default_rng(seed).random((4, len(confidence))) < 0.5
    found = CountedMetrics(METRICS, list(rows)).on(np.ones(correct.shape, np.uint8), correct)
    for name, metric in METRICS.items():
        assert found[name].tolist() == near([metric(confidence, each) for each in correct]), name


@pytest.mark.parametrize("n", [300, 4000, MANY])
def test_every_interval_and_difference_is_that_of_the_plain_metrics(n):
    rng = np.random.default_rng(0)
    a, b = ((rng.random(n), rng.random(n) < 0.6) for _ in range(2))
    found = bootstrap_intervals(METRICS, *a, resamples=12)
    for name, interval in bootstrap_intervals(hidden(METRICS), *a, resamples=12).items():
        assert found[name] == near(interval), name
        assert name not in EXACT or found[name] == interval
    ours, plain = (
        paired_bootstraps(each, a, b, resamples=9) for each in (METRICS, hidden(METRICS))
    )
    for name, each in plain.items():
        assert (ours[name].low, ours[name].high) == near((each.low, each.high)), name
        assert ours[name].p_value == each.p_value


@pytest.mark.parametrize("name", METRICS)
def test_every_interval_of_zero_error_is_that_of_the_plain_metric(name):
    confidence = np.random.default_rng(1).random(120).round(2)
    found = consistency_interval(METRICS[name], confidence, resamples=30)
    assert found == near(consistency_interval(hidden(METRICS)[name], confidence, resamples=30))


@pytest.mark.parametrize("block", [1, 7 * 50, 1 << 20])
def test_results_do_not_depend_on_how_many_resamples_are_worked_on_at_once(monkeypatch, block):
    rng = np.random.default_rng(2)
    rows = rng.random(50), rng.random(50) < 0.6
    found = partial(bootstrap_intervals, METRICS, *rows, resamples=30)
    floor = partial(consistency_interval, METRICS["ece"], rows[0], resamples=30)
    expected = found(), floor()
    monkeypatch.setattr(resampling_module, "BLOCK", block)
    monkeypatch.setattr(counted_module, "GRIDS", 4)
    assert (found(), floor()) == expected


@pytest.mark.parametrize("n", [1, 2, 7, 1000, MANY])
def test_the_resamples_are_those_drawn_one_after_the_other(n):
    blocks = list(each_block(lambda draws: draws.rows, n, 40, 5))
    assert np.array_equal(np.concatenate(blocks), list(draw_rows(n, 40, 5)))


@pytest.mark.parametrize("threads", [1, 3])
def test_resamples_come_in_order_however_many_threads(monkeypatch, threads):
    monkeypatch.setattr(resampling_module, "THREADS", threads)
    first = list(each_block(lambda draws: int(draws.rows[0, 0]), MANY, 7, 3))
    assert first == [int(rows[0]) for rows in draw_rows(MANY, 7, 3)]


def test_means_are_those_of_the_drawn_rows_and_may_be_infinite():
    values = np.random.default_rng(3).exponential(size=301)
    draws = np.stack(list(draw_rows(301, 20, 0)))
    for infinite in ([], [0], [0, 5]):
        values[infinite] = np.inf
        found = ResampledMetrics({"nll": mean}, [values]).on(Draws(draws))["nll"]
        assert found.tolist() == near([values[rows].mean() for rows in draws])
    half = values[1:].astype(np.float16) * 100
    found_of_half = ResampledMetrics({"nll": mean}, [half]).on(Draws(draws[:, 1:] % 300))["nll"]
    exact = [half[rows].astype(np.float64).mean() for rows in draws[:, 1:] % 300]
    assert found_of_half.tolist() == near(exact)
    assert np.isinf(found).any()
    assert np.isfinite(found).any()


def test_two_infinite_means_differ_by_nothing_to_speak_of():
    values = [np.array([np.inf, 1.0, 2.0])]
    found = paired_bootstraps({"nll": mean}, values, values, resamples=50)["nll"]
    assert np.isnan(found.difference)


def test_counts_above_a_byte_are_kept():
    assert Draws(np.arange(300)[np.newaxis]).counts.dtype == np.uint8
    many = Draws(np.zeros((1, 300), dtype=np.int64)).counts
    assert many[0, 0] == 300
    rows = np.linspace(0, 1, 1300), np.arange(1300) % 3 == 0
    counts = np.zeros((1, 1300), dtype=np.int64)
    counts[0, [0, 7]] = 1000, 300
    expanded = [np.repeat(array, counts[0]) for array in rows]
    for name, found in CountedMetrics(METRICS, list(rows)).on(counts).items():
        assert found.tolist() == near([METRICS[name](*expanded)]), name


def test_others_are_left_alone():
    rows = [np.linspace(0, 1, 4), np.ones(4, dtype=bool)]
    odd = partial(METRICS["aurc"], rows[0])
    known = CountedMetrics({"odd": odd, "aurc": METRICS["aurc"]}, rows)
    assert known.names == {"aurc"}
    assert not CountedMetrics({"nll": negative_log_likelihood}, [rows[0]]).names


def test_few_rows_take_no_step_of_their_own_for_a_resample(monkeypatch):
    """The demo's report took 45 seconds: each metric was computed anew for each resample."""
    calls = []
    monkeypatch.setattr(resampling_module, "BLOCK", 100 * 300)
    for name in ("bincount", "cumsum", "take_along_axis", "square"):
        plain = getattr(np, name)

        def counting(*arguments, plain=plain, **named):
            calls.append(plain)
            return plain(*arguments, **named)

        monkeypatch.setattr(np, name, counting)
    rng = np.random.default_rng(4)
    bootstrap_intervals(METRICS, rng.random(300), rng.random(300) < 0.6, resamples=1000)
    assert 10 < len(calls) < 1000


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
