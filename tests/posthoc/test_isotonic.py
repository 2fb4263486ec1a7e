"""Isotonic calibration is scikit-learn's isotonic regression."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from cogcalib.posthoc import IsotonicCalibration

rows = st.lists(
    st.tuples(st.integers(0, 64).map(lambda k: k / 64), st.booleans()), min_size=1, max_size=60
)


@given(rows)
def test_it_is_that_of_scikit_learn_between_and_beyond_the_points(data):
    confidence, correct = map(np.array, zip(*data, strict=True))
    oracle = IsotonicRegression(out_of_bounds="clip").fit(confidence, correct.astype(float))
    fitted = IsotonicCalibration().fit(confidence, correct)
    points = np.linspace(0, 1, 257)
    np.testing.assert_allclose(fitted.transform(points), oracle.predict(points), atol=1e-12)


def test_it_is_that_of_scikit_learn_at_size():
    rng = np.random.default_rng(0)
    confidence = rng.beta(5, 1, size=5000)
    correct = rng.random(5000) < confidence**2
    oracle = IsotonicRegression(out_of_bounds="clip").fit(confidence, correct)
    fitted = IsotonicCalibration().fit(confidence, correct)
    points = np.linspace(0, 1, 5001)
    np.testing.assert_allclose(fitted.transform(points), oracle.predict(points), atol=1e-12)
    assert len(fitted.confidence_) < 200
    assert np.abs(fitted.transform(points[2500:]) - points[2500:] ** 2).max() < 0.15


@given(rows)
def test_it_never_turns_an_order_round_and_keeps_the_mean(data):
    confidence, correct = map(np.array, zip(*data, strict=True))
    fitted = IsotonicCalibration().fit(confidence, correct)
    assert (np.diff(fitted.transform(np.linspace(0, 1, 200))) >= 0).all()
    np.testing.assert_allclose(fitted.transform(confidence).mean(), correct.mean(), atol=1e-12)


def test_one_point_is_a_constant():
    fitted = IsotonicCalibration().fit([0.9, 0.9, 0.9, 0.9], [1, 0, 1, 1])
    np.testing.assert_array_equal(fitted.transform([0.0, 0.5, 1.0]), [0.75] * 3)


def test_fit_returns_the_object_and_keeps_the_shape():
    fitted = IsotonicCalibration()
    assert fitted.fit([0.1, 0.9], [False, True]) is fitted
    assert fitted.transform(np.full((2, 3), 0.5)).shape == (2, 3)


@pytest.mark.parametrize("use", [lambda s: s.transform([0.5]), lambda s: s.save("unused.json")])
def test_unfitted_raises(use):
    with pytest.raises(RuntimeError, match="IsotonicCalibration is not fitted"):
        use(IsotonicCalibration())


def test_save_and_load(tmp_path):
    fitted = IsotonicCalibration().fit([0.1, 0.4, 0.5, 0.9], [False, True, False, True])
    loaded = IsotonicCalibration.load(fitted.save(tmp_path / "isotonic.json"))
    np.testing.assert_array_equal(loaded.confidence_, fitted.confidence_)
    np.testing.assert_array_equal(loaded.accuracy_, fitted.accuracy_)


@pytest.mark.parametrize(
    ("confidence", "accuracy", "message"),
    [
        ([0.1], [0.2, 0.3], "as many ascending fractions"),
        ([0.2, 0.1], [0.2, 0.3], "as many ascending fractions"),
        ([0.1, 0.2], [0.3, 0.2], "as many ascending fractions"),
        ([0.1, 1.2], [0.3, 0.4], "as many ascending fractions"),
        ([], [], "confidence must be a list of finite numbers"),
        ([0.1, None], [0.1, 0.2], "confidence must be a list of finite numbers"),
    ],
)
def test_load_refuses_what_save_did_not_write(tmp_path, confidence, accuracy, message):
    path = tmp_path / "other.json"
    content = {"kind": "isotonic_calibration", "confidence": confidence, "accuracy": accuracy}
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        IsotonicCalibration.load(path)
