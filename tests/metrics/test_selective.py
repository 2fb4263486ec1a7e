"""Selective prediction against every order that ties allow."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cogcalib.metrics import (
    accuracy_at_coverage,
    aurc,
    coverage_at_accuracy,
    risk_coverage_curve,
    selective_accuracy,
    threshold_at_accuracy,
)

fractions = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0]))
predictions = st.lists(st.tuples(fractions, st.booleans()), min_size=1, max_size=40)


def accuracies_over_all_orders(rows: list[tuple[float, bool]]) -> np.ndarray:
    """Mean accuracy of the first k rows over every order that ranks by confidence, k = 1..n."""
    orders = [
        [y for _, y in order]
        for order in permutations(rows)
        if all(a[0] >= b[0] for a, b in pairwise(order))
    ]
    return (np.cumsum(orders, axis=1) / np.arange(1, len(rows) + 1)).mean(axis=0)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.3, 0.7, 1.0]), st.booleans()), min_size=1, max_size=6
    )
)
def test_equal_to_the_mean_over_all_orders_of_ties(rows):
    expected = accuracies_over_all_orders(rows)
    confidence, correct = zip(*rows, strict=True)
    assert aurc(confidence, correct) == pytest.approx(1 - expected.mean(), abs=1e-12)
    for k, accuracy in enumerate(expected, start=1):
        value = accuracy_at_coverage(confidence, correct, k / len(rows))
        assert value == pytest.approx(accuracy, abs=1e-12)


@settings(deadline=None)
@given(predictions, st.randoms(use_true_random=False))
def test_order_of_predictions_does_not_matter(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    one, other = tuple(zip(*rows, strict=True)), tuple(zip(*shuffled, strict=True))
    assert aurc(*one) == pytest.approx(aurc(*other), abs=1e-12)
    assert accuracy_at_coverage(*one, 0.3) == pytest.approx(accuracy_at_coverage(*other, 0.3))


@settings(deadline=None)
@given(predictions)
def test_full_coverage_is_plain_accuracy(rows):
    confidence, correct = zip(*rows, strict=True)
    value = accuracy_at_coverage(confidence, correct, 1.0)
    assert value == pytest.approx(np.mean(correct))


def test_constant_confidence_gives_the_error_rate():
    assert aurc([1.0] * 8, [1, 1, 1, 0, 0, 1, 1, 1]) == pytest.approx(0.25)


def test_hand_computed():
    confidence, correct = [0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0]
    assert aurc(confidence, correct) == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)
    assert accuracy_at_coverage(confidence, correct, 0.75) == pytest.approx(2 / 3)
    assert accuracy_at_coverage(confidence, correct, 0.5001) == pytest.approx(2 / 3)
    assert accuracy_at_coverage(confidence, correct, 1e-12) == 1.0


def test_all_right_and_all_wrong():
    assert aurc([0.2, 0.4, 0.4], [1, 1, 1]) == 0.0
    assert aurc([0.2, 0.4, 0.4], [0, 0, 0]) == 1.0


def test_coverage_is_not_pushed_up_by_rounding():
    """0.07 * 100 is a little above 7 in floating point: still seven predictions, not eight."""
    confidence = np.linspace(1, 0, 100)
    correct = np.arange(100) < 7
    assert accuracy_at_coverage(confidence, correct, 0.07) == 1.0


@pytest.mark.parametrize("coverage", [0.0, -0.5, 1.1, float("nan")])
def test_coverage_must_be_a_share(coverage):
    with pytest.raises(ValueError, match=r"coverage must lie in \(0, 1\], got"):
        accuracy_at_coverage([0.5], [True], coverage)


def test_rejects_malformed_arrays():
    with pytest.raises(ValueError, match="confidence must lie in"):
        aurc([2.0], [True])


@settings(deadline=None)
@given(predictions, st.sampled_from([0.0, 0.5, 0.9, 1.0]))
def test_selective_accuracy_is_that_of_the_answered(rows, threshold):
    answered = [y for c, y in rows if c >= threshold]
    value = selective_accuracy(*zip(*rows, strict=True), threshold)
    if answered:
        assert value == pytest.approx(sum(answered) / len(answered))
    else:
        assert np.isnan(value)


@settings(deadline=None)
@given(predictions, st.sampled_from([0.01, 0.5, 0.9, 1.0]))
def test_coverage_equals_a_search_over_all_thresholds(rows, accuracy):
    confidence, correct = zip(*rows, strict=True)
    shares = [0.0]
    for threshold in confidence:
        answered = [y for c, y in rows if c >= threshold]
        if sum(answered) / len(answered) >= accuracy:
            shares.append(len(answered) / len(rows))
    coverage = coverage_at_accuracy(confidence, correct, accuracy)
    assert coverage == max(shares)
    if coverage:
        assert accuracy_at_coverage(confidence, correct, coverage) >= accuracy - 1e-12


@settings(deadline=None)
@given(predictions, st.sampled_from([0.01, 0.5, 0.9, 1.0]))
def test_the_threshold_answers_what_the_coverage_says(rows, accuracy):
    confidence, correct = zip(*rows, strict=True)
    coverage = coverage_at_accuracy(confidence, correct, accuracy)
    threshold = threshold_at_accuracy(confidence, correct, accuracy)
    if not coverage:
        assert np.isnan(threshold)
        return
    answered = [y for c, y in rows if c >= threshold]
    assert len(answered) / len(rows) == coverage
    assert threshold in confidence
    assert sum(answered) / len(answered) >= accuracy
    assert selective_accuracy(confidence, correct, threshold) == sum(answered) / len(answered)


@settings(deadline=None)
@given(predictions)
def test_the_risk_coverage_curve_has_the_aurc_under_it(rows):
    confidence, correct = zip(*rows, strict=True)
    everywhere = [k / len(rows) for k in range(1, len(rows) + 1)]
    curve = risk_coverage_curve(confidence, correct, everywhere)
    assert np.mean(curve) == pytest.approx(aurc(confidence, correct), abs=1e-12)
    assert curve[-1] == pytest.approx(1 - np.mean(correct), abs=1e-12)
    assert all(
        risk == pytest.approx(1 - accuracy_at_coverage(confidence, correct, coverage))
        for risk, coverage in zip(curve, everywhere, strict=True)
    )


def test_coverages_of_the_curve_are_shares():
    with pytest.raises(ValueError, match=r"coverages must lie in \(0, 1\], got"):
        risk_coverage_curve([0.5], [True], [0.5, 1.5])


def test_coverage_takes_a_tie_whole_or_not_at_all():
    confidence, correct = [1.0] * 10 + [0.5] * 10, [1] * 10 + [1, 0] * 5
    assert coverage_at_accuracy(confidence, correct, 0.9) == 0.5
    assert coverage_at_accuracy(confidence, correct, 0.75) == 1.0
    assert coverage_at_accuracy([0.9, 0.8], [0, 0], 0.1) == 0.0


def test_wanted_accuracy_met_exactly_counts():
    for wanted in range(1, 101):
        correct = np.arange(100) < wanted
        assert coverage_at_accuracy(np.ones(100), correct, wanted / 100) == 1.0


@pytest.mark.parametrize("accuracy", [0.0, 1.1, float("nan")])
def test_wanted_accuracy_must_be_a_share(accuracy):
    with pytest.raises(ValueError, match=r"accuracy must lie in \(0, 1\], got"):
        coverage_at_accuracy([0.5], [True], accuracy)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_threshold_must_be_a_fraction(threshold):
    with pytest.raises(ValueError, match=r"threshold must lie in \[0, 1\], got"):
        selective_accuracy([0.5], [True], threshold)
