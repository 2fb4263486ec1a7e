"""Bootstrap intervals against theory, and what they do where a metric is undefined."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.stats import norm

from cogcalib.metrics import (
    auroc,
    bootstrap_interval,
    brier_score,
    consistency_interval,
    expected_calibration_error,
    paired_bootstrap,
)

NAN = pytest.approx(float("nan"), nan_ok=True)


def test_interval_of_a_mean_is_the_normal_one():
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_interval(np.mean, values, level=0.9, resamples=4000)
    half = norm.ppf(0.95) * values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_coverage_is_the_level():
    inside = 0
    for seed in range(200):
        values = np.random.default_rng(seed).random(100)
        low, high = bootstrap_interval(np.mean, values, level=0.8, resamples=200, seed=seed)
        inside += low <= 0.5 <= high
    assert inside / 200 == pytest.approx(0.8, abs=0.08)


def test_rows_of_all_arrays_are_drawn_together():
    first = np.arange(50)
    second = np.stack([first, first + 1], axis=1)

    def misaligned(a, b):
        return float((b != np.stack([a, a + 1], axis=1)).sum())

    assert bootstrap_interval(misaligned, first, second, resamples=20) == (0.0, 0.0)


def test_seed_decides_the_interval():
    rng = np.random.default_rng(0)
    arrays = rng.random(60), rng.random(60) < 0.5
    interval = partial(bootstrap_interval, brier_score, *arrays, resamples=50)
    assert interval(seed=1) == interval(seed=1)
    assert interval(seed=1) != interval(seed=2)


def test_wider_level_gives_wider_interval():
    rng = np.random.default_rng(0)
    arrays = rng.random(60), rng.random(60) < 0.5
    low, high = bootstrap_interval(brier_score, *arrays, level=0.8)
    lower, higher = bootstrap_interval(brier_score, *arrays, level=0.99)
    assert lower < low < high < higher


def test_undefined_resamples_are_left_out():
    """One wrong prediction of five: a third of the resamples miss it and have no AUROC."""
    confidence, correct = [0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 1, 1, 0]
    assert bootstrap_interval(auroc, confidence, correct) == (1.0, 1.0)


def test_undefined_metric_has_no_interval():
    low, high = bootstrap_interval(auroc, [0.9, 0.8], [1, 1])
    assert low == NAN
    assert high == NAN
    undefined = paired_bootstrap(auroc, ([0.9, 0.8], [1, 1]), ([0.9, 0.8], [1, 0]))
    for value in (undefined.difference, undefined.low, undefined.high, undefined.p_value):
        assert value == NAN


def test_a_method_does_not_differ_from_itself():
    rng = np.random.default_rng(0)
    arrays = rng.random(100), rng.random(100) < 0.5
    result = paired_bootstrap(brier_score, arrays, arrays, resamples=100)
    assert (result.difference, result.low, result.high, result.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_swapping_the_methods_flips_the_difference():
    rng = np.random.default_rng(0)
    correct = rng.random(200) < 0.6
    a, b = (rng.random(200), correct), (rng.random(200), correct)
    forth = paired_bootstrap(brier_score, a, b, resamples=400)
    back = paired_bootstrap(brier_score, b, a, resamples=400)
    assert forth.difference == -back.difference
    assert forth.low == pytest.approx(-back.high)
    assert forth.high == pytest.approx(-back.low)
    assert forth.p_value == back.p_value


def test_pairing_sees_a_small_constant_difference():
    """Far below the spread of either method, yet the same on every example."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=50)
    result = paired_bootstrap(np.mean, [values + 0.001], [values], resamples=199)
    assert result.low == pytest.approx(0.001)
    assert result.high == pytest.approx(0.001)
    assert result.p_value == pytest.approx(2 / 200)


@pytest.mark.parametrize("z", [-2.0, 1.5])
def test_p_value_is_that_of_the_paired_z_test(z):
    rng = np.random.default_rng(0)
    values, gap = rng.normal(size=(2, 500))
    gap += z * gap.std() / np.sqrt(500) - gap.mean()
    result = paired_bootstrap(np.mean, [values + gap], [values], resamples=4000)
    assert result.difference == pytest.approx(gap.mean())
    assert result.p_value == pytest.approx(2 * norm.sf(abs(z)), abs=0.02)


def test_consistency_interval_of_the_brier_score_is_centred_on_its_expectation():
    confidence = np.random.default_rng(0).random(2000)
    low, high = consistency_interval(brier_score, confidence, resamples=500)
    assert low < np.mean(confidence * (1 - confidence)) < high
    assert high - low < 0.03


def test_certain_predictions_leave_nothing_to_chance():
    assert consistency_interval(expected_calibration_error, [0.0, 1.0, 1.0]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ((), {}, "arrays must hold at least one array"),
        ((3.0,), {}, "arrays must hold at least one array and no scalars"),
        (([],), {}, r"arrays\[0\] must not be empty"),
        (([1.0], [1.0, 2.0]), {}, r"got arrays\[0\] 1, arrays\[1\] 2"),
        (([1.0],), {"level": 1.0}, r"level must lie in \(0, 1\), got 1.0"),
        (([1.0],), {"level": 95}, r"level must lie in \(0, 1\), got 95"),
        (([1.0],), {"resamples": 0}, "resamples must be a whole number of at least 1, got 0"),
    ],
)
def test_malformed_arguments_are_named(arrays, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(np.mean, *arrays, **options)


def test_paired_methods_need_the_same_examples():
    with pytest.raises(ValueError, match="got arrays_a 2, arrays_b 1"):
        paired_bootstrap(np.mean, [[1.0, 2.0]], [[1.0]])


def test_consistency_interval_needs_confidences():
    with pytest.raises(ValueError, match="confidence must lie in"):
        consistency_interval(brier_score, [1.2])


def test_a_difference_that_is_rounding_alone_is_none():
    """0.1 + 0.2 - 0.3 is 6e-17 on every resample: not a significant difference."""
    values = np.full(50, 0.1 + 0.2), np.full(50, 0.3)
    found = paired_bootstrap(lambda each: float(each[0]), values[:1], values[1:], resamples=50)
    assert (found.difference, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)
    assert not found.significant


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e9])
def test_a_small_difference_in_any_unit_is_one(unit):
    noise = np.random.default_rng(0).normal(size=50) * 1e-3
    one, other = unit * (1e-5 * noise + 1 + 1e-7), unit * np.ones(50)
    assert paired_bootstrap(np.mean, [one], [other], resamples=50).significant


def test_a_floor_refuses_what_the_metric_refuses():
    for wrong in ({"bins": 0}, {"binning": "foo"}):
        metric = partial(expected_calibration_error, **wrong)
        with pytest.raises(ValueError, match=next(iter(wrong))):
            consistency_interval(metric, [0.5, 0.6], resamples=10)
