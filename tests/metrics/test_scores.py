"""Brier score, NLL and AUROC against scikit-learn and against all pairs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from cogcalib.metrics import auroc, bootstrap_interval, brier_score, negative_log_likelihood

predictions = st.lists(
    st.tuples(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0])), st.booleans()),
    min_size=1,
    max_size=40,
)


@settings(deadline=None)
@given(predictions)
def test_auroc_equals_a_count_over_all_pairs(rows):
    right = [c for c, y in rows if y]
    wrong = [c for c, y in rows if not y]
    value = auroc(*zip(*rows, strict=True))
    if not right or not wrong:
        assert np.isnan(value)
        return
    wins = sum((r > w) + 0.5 * (r == w) for r, w in product(right, wrong))
    assert value == pytest.approx(wins / (len(right) * len(wrong)), abs=1e-12)


@pytest.mark.parametrize("decimals", [1, 16])
def test_equal_to_scikit_learn(decimals):
    """With one decimal nearly every confidence is tied with others."""
    rng = np.random.default_rng(0)
    confidence = rng.random(3000).round(decimals)
    correct = rng.random(3000) < confidence
    assert auroc(confidence, correct) == pytest.approx(roc_auc_score(correct, confidence))
    assert brier_score(confidence, correct) == pytest.approx(brier_score_loss(correct, confidence))


@settings(deadline=None)
@given(predictions, st.randoms(use_true_random=False))
def test_order_of_predictions_does_not_matter(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    one, other = zip(*rows, strict=True), zip(*shuffled, strict=True)
    (c, y), (c_shuffled, y_shuffled) = one, other
    np.testing.assert_equal(auroc(c, y), auroc(c_shuffled, y_shuffled))
    assert brier_score(c, y) == pytest.approx(brier_score(c_shuffled, y_shuffled), abs=1e-12)


@settings(deadline=None)
@given(predictions)
def test_auroc_depends_on_ranks_only(rows):
    confidence, correct = map(np.array, zip(*rows, strict=True))
    ranks = np.unique(confidence, return_inverse=True)[1] / len(rows)
    np.testing.assert_equal(auroc(confidence, correct), auroc(ranks, correct))


def test_auroc_at_its_extremes():
    assert auroc([0.9, 0.8, 0.1], [1, 1, 0]) == 1.0
    assert auroc([0.9, 0.8, 0.1], [0, 0, 1]) == 0.0
    assert auroc([1.0, 1.0, 1.0], [1, 0, 0]) == 0.5


def test_brier_score_at_exactly_zero_and_one():
    assert brier_score([1.0, 0.0], [1, 0]) == 0.0
    assert brier_score([1.0, 0.0], [0, 1]) == 1.0
    assert brier_score([0.25], [True]) == 0.5625


@pytest.mark.parametrize("metric", [auroc, brier_score])
def test_malformed_arrays_are_named(metric):
    with pytest.raises(ValueError, match="correct must be boolean or 0 and 1, got 3 at index 0"):
        metric([0.5], [3])


def test_nll_equals_the_log_loss_of_scikit_learn():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(4), size=500)
    gold = rng.integers(4, size=500)
    nll = negative_log_likelihood(np.log(shares[np.arange(500), gold]))
    assert nll == pytest.approx(log_loss(gold, shares, labels=range(4)), rel=1e-12)


def test_nll_at_certainty_and_impossibility():
    assert str(negative_log_likelihood([0.0, 0.0])) == "0.0"
    assert negative_log_likelihood([0.0, -np.inf]) == np.inf
    assert negative_log_likelihood([-800.0]) == 800.0  # where the probability itself is 0.0


def test_interval_of_an_infinite_nll_is_no_nan():
    low, high = bootstrap_interval(negative_log_likelihood, [-1.0] * 9 + [-np.inf], resamples=200)
    assert low == 1.0
    assert high == np.inf


@pytest.mark.parametrize(
    ("logprob", "message"),
    [
        ([-1.0, 0.5], r"gold_logprob must be at most 0 .*got 0.5 at index 1"),
        ([float("nan")], "got nan at index 0"),
        ([], "gold_logprob must not be empty"),
        ([[-1.0]], "gold_logprob must be one-dimensional"),
    ],
)
def test_malformed_logprobs_are_named(logprob, message):
    with pytest.raises(ValueError, match=message):
        negative_log_likelihood(logprob)
