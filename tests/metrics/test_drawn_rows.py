"""Metrics of all resamples at once equal, to the bit, those of each resample's rows."""

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
from cogcalib.metrics import drawn_rows as drawn_rows_module
from cogcalib.metrics import resampling as resampling_module
from cogcalib.metrics.drawn_rows import DrawnMetrics
from cogcalib.metrics.resampling import MANY, draw_rows, each_block

METRICS = {
    **standard_metrics(),
    "ece_one_bin": partial(expected_calibration_error, bins=1, binning="mass"),
    "mce_mass": partial(maximum_calibration_error, bins=7, binning="mass"),
    "accuracy_at_all": partial(accuracy_at_coverage, coverage=1.0),
}


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


@given(predictions(), st.integers(0, 99))
def test_every_metric_is_that_of_the_drawn_rows(rows, seed):
    draws = np.stack(list(draw_rows(len(rows[0]), 5, seed)))
    found = DrawnMetrics(METRICS, list(rows)).on(draws)
    assert found.keys() == METRICS.keys()
    for name, metric in METRICS.items():
        expected = [metric(*(array[drawn] for array in rows)) for drawn in draws]
        np.testing.assert_array_equal(found[name], expected, err_msg=name)


@pytest.mark.parametrize("n", [300, 4000, MANY - 1])
def test_every_interval_and_difference_is_that_of_the_plain_metrics(n):
    rng = np.random.default_rng(0)
    a, b = ((rng.random(n), rng.random(n) < 0.6) for _ in range(2))
    assert bootstrap_intervals(METRICS, *a, resamples=40) == bootstrap_intervals(
        hidden(METRICS), *a, resamples=40
    )
    assert paired_bootstraps(METRICS, a, b, resamples=9) == paired_bootstraps(
        hidden(METRICS), a, b, resamples=9
    )


@pytest.mark.parametrize("name", METRICS)
def test_every_interval_of_zero_error_is_that_of_the_plain_metric(name):
    confidence = np.random.default_rng(1).random(120).round(2)
    found = consistency_interval(METRICS[name], confidence, resamples=30)
    assert found == consistency_interval(hidden(METRICS)[name], confidence, resamples=30)


@pytest.mark.parametrize("block", [1, 7 * 50, 1 << 20])
def test_results_do_not_depend_on_how_many_resamples_are_worked_on_at_once(monkeypatch, block):
    rng = np.random.default_rng(2)
    rows = rng.random(50), rng.random(50) < 0.6
    found = partial(bootstrap_intervals, METRICS, *rows, resamples=30)
    floor = partial(consistency_interval, METRICS["ece"], rows[0], resamples=30)
    expected = found(), floor()
    monkeypatch.setattr(resampling_module, "BLOCK", block)
    monkeypatch.setattr(drawn_rows_module, "GRIDS", 4)
    assert (found(), floor()) == expected


@pytest.mark.parametrize("n", [1, 2, 7, 1000, MANY - 1])
def test_the_resamples_are_those_drawn_one_after_the_other(n):
    blocks = list(each_block(lambda draws: draws.rows, n, 40, 5))
    assert np.array_equal(np.concatenate(blocks), list(draw_rows(n, 40, 5)))


def test_means_are_those_of_the_drawn_rows_and_may_be_infinite():
    values = np.random.default_rng(3).exponential(size=301)
    draws = np.stack(list(draw_rows(301, 20, 0)))
    found = DrawnMetrics({"nll": mean}, [values]).on(draws)["nll"]
    assert found.tolist() == [values[rows].mean() for rows in draws]
    values[0] = np.inf
    assert np.isinf(DrawnMetrics({"nll": mean}, [values]).on(draws)["nll"]).any()


def test_two_infinite_means_differ_by_nothing_to_speak_of():
    values = [np.array([np.inf, 1.0, 2.0])]
    found = paired_bootstraps({"nll": mean}, values, values, resamples=50)["nll"]
    assert np.isnan(found.difference)


def test_others_are_left_alone():
    rows = [np.linspace(0, 1, 4), np.ones(4, dtype=bool)]
    odd = partial(METRICS["aurc"], rows[0])
    known = DrawnMetrics({"odd": odd, "aurc": METRICS["aurc"]}, rows)
    assert known.names == {"aurc"}
    assert not DrawnMetrics({"nll": negative_log_likelihood}, [rows[0]]).names


def test_few_rows_take_no_step_of_their_own_for_a_resample(monkeypatch):
    """The demo's report took 45 seconds: each metric was computed anew for each resample."""
    calls = []
    monkeypatch.setattr(resampling_module, "BLOCK", 100 * 300)
    for name in ("bincount", "cumsum", "take"):
        plain = getattr(np, name)

        def counting(*arguments, plain=plain, **named):
            calls.append(plain)
            return plain(*arguments, **named)

        monkeypatch.setattr(np, name, counting)
    rng = np.random.default_rng(4)
    bootstrap_intervals(METRICS, rng.random(300), rng.random(300) < 0.6, resamples=1000)
    assert 10 < len(calls) < 1000
