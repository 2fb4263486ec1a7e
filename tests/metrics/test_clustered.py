"""Both paired bootstraps against an oracle that resamples question by question, seed by seed."""

from __future__ import annotations

from functools import partial
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from cogcalib.metrics import (
    brier_score,
    clustered_paired_bootstrap,
    drawn_tasks_bootstrap,
    expected_calibration_error,
    paired_bootstraps,
    resample_weights,
    resampled_ece,
    resampled_mean,
)

RESAMPLES = 40
ECE = partial(expected_calibration_error, bins=5)
METRICS = {"brier": brier_score, "ece": ECE, "accuracy": lambda _, correct: float(correct.mean())}


@st.composite
def runs(draw: st.DrawFn) -> np.ndarray:
    """Confidence and correctness, [2 methods, seeds, 2, n]; confidences on edges of bins too."""
    seeds, n = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    source = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    confidence = source.choice([0.0, 0.2, 0.37, 0.4, 0.85, 1.0], size=(2, seeds, n))
    correct = source.random((2, seeds, n)) < 0.6
    return np.stack([confidence, correct], axis=2)


def drawn_questions(n: int) -> list[np.ndarray]:
    source = np.random.default_rng(0)
    return [source.integers(n, size=n) for _ in range(RESAMPLES)]


def ends(differences: list[float], method: str) -> tuple[float, float]:
    low, high = np.quantile(differences, [(1 - 0.95) / 2, (1 + 0.95) / 2], method=method)
    return float(low), float(high)


def p_value(differences: list[float]) -> float:
    sides = sum(d <= 0 for d in differences), sum(d >= 0 for d in differences)
    return min(1.0, 2 * (1 + min(sides)) / (1 + len(differences)))


@given(runs())
def test_questions_alone_equal_the_oracle(both: np.ndarray) -> None:
    (one, other) = ([run[0], run[1].astype(bool)] for run in both[:, 0])
    found = paired_bootstraps(METRICS, one, other, resamples=RESAMPLES)
    for name, metric in METRICS.items():
        differences = [
            metric(*(column[draw] for column in one)) - metric(*(column[draw] for column in other))
            for draw in drawn_questions(len(one[0]))
        ]
        # What is 0 but for the order of a sum counts as 0.
        differences = [0.0 if abs(each) < 1e-12 else each for each in differences]
        assert found[name].difference == pytest.approx(metric(*one) - metric(*other), abs=1e-12)
        interval = found[name].low, found[name].high
        assert interval == pytest.approx(ends(differences, "linear"), abs=1e-12)
        assert found[name].p_value == p_value(differences)
        assert found[name].significant == (found[name].low > 0 or found[name].high < 0)


def clustered(metric: str, both: np.ndarray) -> list[np.ndarray]:
    """Values of both methods, [seeds] each, and on the resamples, [seeds, resamples] each."""
    weights = resample_weights(both.shape[-1], RESAMPLES)

    def on_resamples(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
        if metric == "ece":
            return resampled_ece(weights, confidence, correct, bins=5)
        columns = {"accuracy": correct, "brier": (confidence - correct) ** 2}
        return resampled_mean(weights, columns[metric])

    values = [
        np.array([METRICS[metric](c, right.astype(bool)) for c, right in method]) for method in both
    ]
    return [*values, *(np.array([on_resamples(*run) for run in method]) for method in both)]


@given(runs(), st.sampled_from(sorted(METRICS)))
def test_questions_and_seeds_equal_the_oracle(both: np.ndarray, name: str) -> None:
    seeds, n = both.shape[1], both.shape[-1]
    drawn_seeds = np.random.default_rng(1).integers(seeds, size=(seeds, RESAMPLES))
    differences = []
    for number, draw in enumerate(drawn_questions(n)):
        by_seed = [
            METRICS[name](one[0][draw], one[1][draw].astype(bool))
            - METRICS[name](other[0][draw], other[1][draw].astype(bool))
            for one, other in zip(*both, strict=True)
        ]
        differences.append(fmean(by_seed[seed] for seed in drawn_seeds[:, number]))
    found = clustered_paired_bootstrap(*clustered(name, both))
    one, other = (
        fmean(METRICS[name](c, right.astype(bool)) for c, right in method) for method in both
    )
    assert found.difference == pytest.approx(one - other, abs=1e-12)
    assert (found.low, found.high) == pytest.approx(ends(differences, "nearest"), abs=1e-12)


@given(runs())
def test_one_seed_leaves_the_questions(both: np.ndarray) -> None:
    alone = both[:, :1]
    found = clustered_paired_bootstrap(*clustered("brier", alone))
    one, other = ([run[0], run[1].astype(bool)] for run in alone[:, 0])
    plain = paired_bootstraps({"brier": brier_score}, one, other, resamples=RESAMPLES)["brier"]
    assert found.difference == pytest.approx(plain.difference, abs=1e-12)
    # The plain one interpolates between neighbours of the resamples.
    assert found.low <= plain.high + 1e-12
    assert found.high >= plain.low - 1e-12


@settings(max_examples=5)
@given(st.integers(0, 100))
def test_spread_of_seeds_widens_the_interval_as_theory_says(source: int) -> None:
    """Seeds that differ by a constant each: the interval is that of the mean of those constants."""
    offsets = np.random.default_rng(source).normal(size=30)
    draws = np.repeat(offsets[:, None], 4000, axis=1)
    found = clustered_paired_bootstrap(offsets, np.zeros(30), draws, np.zeros_like(draws))
    half = norm.ppf(0.975) * offsets.std() / np.sqrt(30)
    assert found.low == pytest.approx(offsets.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(offsets.mean() + half, abs=0.15 * half)


def test_infinite_values_are_told_from_undefined_ones() -> None:
    weights = resample_weights(3, 5)
    means = resampled_mean(weights, np.array([1.0, np.inf, 1.0]))
    assert np.array_equal(np.isinf(means), weights[:, 1] > 0)
    endless = np.full((2, 5), np.inf)
    found = clustered_paired_bootstrap(endless[:, 0], np.zeros(2), endless, np.zeros((2, 5)))
    assert (found.difference, found.low, found.high) == (np.inf, np.inf, np.inf)
    both = clustered_paired_bootstrap(endless[:, 0], endless[:, 0], endless, endless)
    assert np.isnan([both.difference, both.low, both.high, both.p_value]).all()
    assert not both.significant


@pytest.mark.parametrize(
    ("values", "draws", "level", "message"),
    [
        (([1.0], [1.0, 2.0]), ([[1.0]], [[1.0]]), 0.95, r"\[seeds\], got \(1,\) and \(2,\)"),
        (([], []), ([], []), 0.95, r"\[seeds\], got \(0,\)"),
        (([1.0], [1.0]), ([[1.0]], [[1.0, 2.0]]), 0.95, r"\[1 seeds, resamples\]"),
        (([1.0], [1.0]), ([1.0], [1.0]), 0.95, r"\[1 seeds, resamples\]"),
        (([1.0], [1.0]), ([[1.0]], [[1.0]]), 1.0, r"level must lie in \(0, 1\)"),
    ],
)
def test_malformed_arguments_are_named(values, draws, level, message) -> None:
    with pytest.raises(ValueError, match=message):
        clustered_paired_bootstrap(*values, *draws, level=level)


def test_weights_need_questions_and_resamples() -> None:
    assert resample_weights(4, 3).sum(axis=1) == pytest.approx(1)
    with pytest.raises(ValueError, match="n must be a whole number of at least 1"):
        resample_weights(0, 3)
    with pytest.raises(ValueError, match="resamples must be a whole number of at least 1"):
        resample_weights(3, 0)


def test_tasks_drawn_alone_are_those_of_the_quantiles_of_their_means():
    gaps = np.random.default_rng(3).normal(-0.1, 0.2, 9)
    found = drawn_tasks_bootstrap([[gap] for gap in gaps])
    picked = np.random.default_rng(0).integers(9, size=(10_000, 9))
    low, high = np.quantile(gaps[picked].mean(axis=1), (0.025, 0.975))
    assert found.difference == pytest.approx(gaps.mean())
    assert (found.low, found.high) == pytest.approx((low, high))


def test_each_source_of_chance_widens_the_interval_as_its_variance_says():
    """Tasks, seeds and questions with known spreads: the bootstrap's variance is their sum's."""
    rng = np.random.default_rng(0)
    tasks, seeds, resamples = 40, 30, 400
    of_task, of_seed = rng.normal(0, 0.3, tasks), rng.normal(0, 0.5, seeds)
    gaps = [np.full(seeds, each) + of_seed for each in of_task]
    draws = [gap[:, None] + rng.normal(0, 1.0, resamples) for gap in gaps]
    spreads = {}
    for name, arguments in {
        "tasks": ([np.full(seeds, each) for each in of_task], None),
        "seeds": ([of_seed] * tasks, None),
        "both": (gaps, None),
        "all": (gaps, draws),
    }.items():
        found = drawn_tasks_bootstrap(*arguments)
        spreads[name] = ((found.high - found.low) / (2 * 1.96)) ** 2
    expected = {"tasks": of_task.var() / tasks, "seeds": of_seed.var() / seeds}
    expected["both"] = expected["tasks"] + expected["seeds"]
    expected["all"] = expected["both"] + 1.0 / tasks
    for name, variance in expected.items():
        assert spreads[name] == pytest.approx(variance, rel=0.12), name


def test_tasks_may_have_resamples_of_different_number_and_an_infinite_difference():
    one = drawn_tasks_bootstrap([[0.5, 0.5]] * 2, [np.full((2, 30), 0.5), np.full((2, 7), 0.5)])
    assert (one.difference, one.low, one.high) == (0.5, 0.5, 0.5)
    assert one.p_value < 0.001
    nothing = drawn_tasks_bootstrap([[np.nan], [0.1]])
    assert np.isnan(nothing.difference)


@pytest.mark.parametrize(
    ("gaps", "draws", "message"),
    [
        ([], None, "got no task"),
        ([[1.0], [1.0, 2.0]], None, r"gaps must be \[seeds\] for each task, got \[1\], \[2\]"),
        ([[1.0]], [[[1.0], [2.0]]], r"draws must be \[1, resamples\] as gaps, got \[2, 1\]"),
    ],
)
def test_tasks_of_other_shapes_are_refused(gaps, draws, message):
    with pytest.raises(ValueError, match=message):
        drawn_tasks_bootstrap(gaps, draws)
