"""Whole runs: every metric beside its interval, equal to the metric computed alone."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from cogcalib.metrics import (
    SMALL_N,
    bootstrap_interval,
    compare,
    coverage_at_accuracy,
    evaluate,
    expected_calibration_error,
    paired_bootstrap,
    standard_metrics,
)


def sample(n: int, power: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    confidence = rng.random(n)
    return confidence, rng.random(n) < confidence**power


def test_every_metric_has_its_value_and_the_interval_of_its_own_bootstrap():
    arrays = sample(200)
    result = evaluate(*arrays, resamples=40, seed=3)
    chosen = standard_metrics()
    assert result.n == 200
    assert list(result.metrics) == list(chosen)
    for name, estimate in result.metrics.items():
        alone = bootstrap_interval(chosen[name], *arrays, resamples=40, seed=3)
        assert estimate.value == chosen[name](*arrays)
        assert (estimate.low, estimate.high) == alone


def test_every_difference_is_that_of_its_own_paired_bootstrap():
    one, other = sample(200), sample(200, power=4.0)
    chosen = standard_metrics()
    differences = compare(one, other, resamples=40, seed=3)
    assert list(differences) == list(chosen)
    for name, difference in differences.items():
        assert difference == paired_bootstrap(chosen[name], one, other, resamples=40, seed=3)
    assert differences["ece"].high < 0.0  # the calibrated run has the lower error


def test_parameters_reach_their_metrics():
    arrays = sample(600, power=2.0)
    chosen = standard_metrics(bins=7, coverage=0.5, accuracy=0.6, threshold=0.3)
    result = evaluate(*arrays, metrics=chosen, resamples=2)
    confidence, correct = arrays
    ece = partial(expected_calibration_error, bins=7)
    assert result.metrics["ece"].value == ece(*arrays)
    assert result.metrics["ece_mass"].value == ece(*arrays, binning="mass")
    assert result.metrics["coverage_at_accuracy"].value == coverage_at_accuracy(*arrays, 0.6)
    assert result.metrics["selective_accuracy"].value == correct[confidence >= 0.3].mean()
    best = np.argsort(-confidence)[:300]
    assert result.metrics["accuracy_at_coverage"].value == pytest.approx(correct[best].mean())


def test_chosen_metrics_only():
    result = evaluate(
        *sample(50), metrics={"mine": lambda c, y: float(np.mean(c - y))}, resamples=9
    )
    assert list(result.metrics) == ["mine"]


@pytest.mark.parametrize(("n", "small"), [(SMALL_N - 1, True), (SMALL_N, False)])
def test_small_n_is_flagged(n, small):
    accuracy = {"accuracy": standard_metrics()["accuracy"]}
    assert evaluate(*sample(n), metrics=accuracy, resamples=1).small_n is small


def test_undefined_metrics_are_nan_and_leave_the_others_alone():
    confidence = np.linspace(0.1, 0.8, 20)
    result = evaluate(confidence, np.ones(20), resamples=20)
    for name in ("auroc", "selective_accuracy"):
        estimate = result.metrics[name]
        assert np.isnan([estimate.value, estimate.low, estimate.high]).all()
    assert result.metrics["accuracy"].low == 1.0
    difference = compare((confidence, np.ones(20)), sample(20), resamples=20)
    assert np.isnan(difference["auroc"].p_value)
    assert not np.isnan(difference["brier"].p_value)


def test_malformed_runs_are_named():
    with pytest.raises(ValueError, match="confidence must lie in"):
        evaluate([1.5], [True])
    with pytest.raises(ValueError, match="must have the same length"):
        compare(sample(20), sample(21))
