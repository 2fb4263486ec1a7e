"""Platt scaling against scikit-learn's logistic regression, and where that has no answer."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from cogcalib.posthoc import PlattScaling
from cogcalib.posthoc.platt import EDGE


def sample(n: int = 400, slope: float = 0.5, shift: float = -0.3, seed: int = 0):
    """Confidences, and answers right with probability sigmoid(slope logit(c) + shift)."""
    rng = np.random.default_rng(seed)
    confidence = rng.beta(4, 1, size=n)
    return confidence, rng.random(n) < expit(slope * logit(confidence) + shift)


def smoothed(correct: np.ndarray) -> np.ndarray:
    right = correct.sum()
    return np.where(correct, (right + 1) / (right + 2), 1 / (len(correct) - right + 2))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [5, 60, 2000])
def test_it_is_logistic_regression_on_the_smoothed_targets(n, seed):
    confidence, correct = sample(n, seed=seed)
    target = smoothed(correct)
    # A target between 0 and 1 is both outcomes, weighted.
    scores = np.tile(logit(confidence), 2)[:, None]
    weights = np.concatenate([target, 1 - target])
    oracle = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000)
    oracle.fit(scores, np.repeat([1, 0], n), sample_weight=weights)
    ours = PlattScaling().fit(confidence, correct)
    assert ours.slope_ == pytest.approx(oracle.coef_[0, 0], rel=1e-4, abs=1e-6)
    assert ours.intercept_ == pytest.approx(oracle.intercept_[0], rel=1e-4, abs=1e-5)


def test_it_is_the_sigmoid_of_scikit_learn():
    confidence, correct = sample()
    scores = logit(confidence)[:, None]
    # A classifier that returns the logit: one feature, weight 1.
    frozen = LogisticRegression().fit(scores, correct)
    frozen.coef_, frozen.intercept_ = np.ones((1, 1)), np.zeros(1)
    oracle = CalibratedClassifierCV(FrozenEstimator(frozen), method="sigmoid", ensemble=False)
    oracle.fit(scores, correct)
    np.testing.assert_allclose(
        PlattScaling().fit(confidence, correct).transform(confidence),
        oracle.predict_proba(scores)[:, 1],
        atol=1e-5,
    )


def test_recovers_the_sigmoid_that_the_answers_were_drawn_with():
    fitted = PlattScaling().fit(*sample(50_000))
    assert fitted.slope_ == pytest.approx(0.5, abs=0.03)
    assert fitted.intercept_ == pytest.approx(-0.3, abs=0.05)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40),
)
def test_any_data_gives_fractions_in_the_order_of_the_slope(rows):
    confidence, correct = map(np.array, zip(*rows, strict=True))
    fitted = PlattScaling().fit(confidence, correct)
    points = np.linspace(0, 1, 101)
    mapped = fitted.transform(points)
    assert np.isfinite([fitted.slope_, fitted.intercept_]).all()
    assert ((mapped >= 0) & (mapped <= 1)).all()
    assert (np.diff(mapped) * np.sign(fitted.slope_) >= 0).all()
    # At the minimum the mean is that of the targets.
    np.testing.assert_allclose(
        fitted.transform(confidence).mean(), smoothed(correct).mean(), atol=1e-9
    )


def test_zero_and_one_are_just_off_the_edge():
    confidence, correct = sample()
    confidence[:3], correct[:3] = [0.0, 1.0, 1.0], [False, True, False]
    fitted = PlattScaling().fit(confidence, correct)
    inner = np.clip(confidence, EDGE, 1 - EDGE)
    assert fitted.slope_ == PlattScaling().fit(inner, correct).slope_
    low, high = fitted.transform([0.0, 1.0])
    assert 0 < low < high < 1
    assert np.float32(1) - np.nextafter(np.float32(1), np.float32(0)) == EDGE


@pytest.mark.parametrize("right", [True, False])
def test_equal_outcomes_have_a_finite_fit(right):
    confidence, _ = sample(50)
    fitted = PlattScaling().fit(confidence, np.full(50, right))
    expected = 51 / 52 if right else 1 / 52
    np.testing.assert_allclose(fitted.transform(confidence), expected, atol=1e-6)


def test_equal_confidences_are_shifted_only():
    fitted = PlattScaling().fit(np.full(8, 0.9), [True] * 6 + [False] * 2)
    assert fitted.slope_ == 1.0
    target = (6 * 7 / 8 + 2 * 1 / 4) / 8
    assert fitted.transform(0.9) == pytest.approx(target)


def test_separable_answers_have_a_finite_fit():
    fitted = PlattScaling().fit([0.2, 0.3, 0.8, 0.9], [False, False, True, True])
    assert 0 < fitted.slope_ < 10


def test_fit_returns_the_object_and_keeps_the_shape():
    fitted = PlattScaling()
    assert fitted.fit(*sample()) is fitted
    assert fitted.transform(np.full((2, 3), 0.5)).shape == (2, 3)


@pytest.mark.parametrize("use", [lambda s: s.transform([0.5]), lambda s: s.save("unused.json")])
def test_unfitted_raises(use):
    with pytest.raises(RuntimeError, match="PlattScaling is not fitted"):
        use(PlattScaling())


def test_save_and_load(tmp_path):
    fitted = PlattScaling().fit(*sample())
    loaded = PlattScaling.load(fitted.save(tmp_path / "platt.json"))
    assert (loaded.slope_, loaded.intercept_) == (fitted.slope_, fitted.intercept_)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"kind": "temperature_scaling"}, "kind must be 'platt_scaling'"),
        ({"kind": "platt_scaling", "slope": "1"}, "slope must be a finite number, got '1'"),
        ({"kind": "platt_scaling", "slope": 1, "intercept": True}, "intercept must be a finite"),
        ({"kind": "platt_scaling", "slope": float("inf")}, "slope must be a finite number"),
    ],
)
def test_load_refuses_what_save_did_not_write(tmp_path, content, message):
    path = tmp_path / "other.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"other\.json: {message}"):
        PlattScaling.load(path)
