"""Vector scaling: its minimum, its special cases, options that are missing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from cogcalib.posthoc import TemperatureScaling, VectorScaling
from cogcalib.posthoc.vector import BOUND, _nll


def sample(n: int = 500, options: int = 4, seed: int = 0, weight=None, bias=None):
    """Logits, and labels drawn from the softmax of the logits weighed and shifted."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2.0, size=(n, options))
    weight = np.ones(options) if weight is None else np.array(weight)
    bias = np.zeros(options) if bias is None else np.array(bias)
    cumulative = softmax(logits * weight + bias, axis=1).cumsum(axis=1)
    return logits, (rng.random((n, 1)) > cumulative[:, :-1]).sum(axis=1)


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def test_gradient_is_the_slope_of_the_nll():
    logits, labels = sample(50)
    logits[:10, 3], labels[:10] = -np.inf, 0
    at = np.random.default_rng(1).normal(size=8)
    value, slope = _nll(at, logits, labels)
    assert value == pytest.approx(
        nll(np.where(np.isinf(logits), -np.inf, logits * at[:4] + at[4:]), labels)
    )
    for k, step in enumerate(1e-6 * np.eye(8)):
        numeric = (_nll(at + step, logits, labels)[0] - _nll(at - step, logits, labels)[0]) / 2e-6
        assert slope[k] == pytest.approx(numeric, abs=1e-8)


@settings(max_examples=30)
@given(st.integers(0, 999), st.integers(2, 5))
def test_the_fit_is_a_minimum_and_no_worse_than_one_temperature(seed, options):
    logits, labels = sample(120, options, seed)
    scaling = VectorScaling().fit(logits, labels)
    best = nll(scaling.transform(logits), labels)
    assert best <= nll(TemperatureScaling().fit(logits, labels).transform(logits), labels) + 1e-8
    _, slope = _nll(np.concatenate([scaling.weight_, scaling.bias_]), logits, labels)
    assert scaling.at_bound_ or np.abs(slope).max() < 1e-5
    assert scaling.bias_.mean() == pytest.approx(0, abs=1e-12)


def test_recovers_what_the_labels_were_drawn_with():
    weight, bias = [0.5, 0.8, 1.2, 0.4], [0.6, -0.6, 0.5, -0.5]
    fitted = VectorScaling().fit(*sample(40_000, weight=weight, bias=bias))
    np.testing.assert_allclose(fitted.weight_, weight, atol=0.04)
    np.testing.assert_allclose(fitted.bias_, bias, atol=0.06)
    assert not fitted.at_bound_


def test_it_can_change_the_answer():
    logits, labels = sample(4000, bias=[2.0, 0, 0, -2.0])
    scaled = VectorScaling().fit(logits, labels).transform(logits)
    before, after = ((table.argmax(1) == labels).mean() for table in (logits, scaled))
    assert after > before + 0.05


def test_an_absent_option_counts_for_nothing_where_it_is_absent():
    logits, labels = sample(300, options=3)
    padded = np.concatenate([logits, np.full((300, 1), -np.inf)], axis=1)
    plain, ragged = VectorScaling().fit(logits, labels), VectorScaling().fit(padded, labels)
    np.testing.assert_allclose(ragged.weight_[:3], plain.weight_, atol=1e-5)
    scaled = ragged.transform(padded)
    assert np.isneginf(scaled[:, 3]).all()
    np.testing.assert_allclose(
        softmax(scaled, axis=1)[:, :3], softmax(plain.transform(logits), axis=1), atol=1e-6
    )


def test_an_option_that_is_never_right_hits_the_bound():
    logits, labels = sample(200)
    labels[labels == 3] = 0
    scaling = VectorScaling().fit(logits, labels)
    assert scaling.at_bound_
    assert np.abs(scaling.weight_).max() <= BOUND
    assert np.isfinite(scaling.transform(logits)).all()


def test_fit_leaves_its_input_alone_and_returns_the_object():
    logits, labels = sample(20)
    before, scaling = logits.copy(), VectorScaling()
    assert scaling.fit(logits, labels) is scaling
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize("split", ["test", "train", ""])
def test_only_the_calibration_split_may_be_fitted(split):
    with pytest.raises(ValueError, match=f"split must be 'calibration'.*'{split}'"):
        VectorScaling().fit(*sample(10), split=split)


@pytest.mark.parametrize("use", [lambda s: s.transform([[1.0]]), lambda s: s.save("unused.json")])
def test_unfitted_raises(use):
    with pytest.raises(RuntimeError, match="VectorScaling is not fitted"):
        use(VectorScaling())


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (np.zeros((5, 3)), "logits must have 4 options, as those fitted on, got 3"),
        (np.zeros(4), r"logits must be numbers of shape \[n, K\]"),
        (np.full((1, 4), np.nan), "finite or -inf"),
    ],
)
def test_transform_refuses_other_logits(logits, message):
    with pytest.raises(ValueError, match=message):
        VectorScaling().fit(*sample(50)).transform(logits)


def test_save_and_load(tmp_path):
    scaling = VectorScaling().fit(*sample(50))
    loaded = VectorScaling.load(scaling.save(tmp_path / "vector.json"))
    np.testing.assert_array_equal(loaded.weight_, scaling.weight_)
    np.testing.assert_array_equal(loaded.bias_, scaling.bias_)
    assert loaded.at_bound_ is scaling.at_bound_


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "platt_scaling"}, "kind must be 'vector_scaling'"),
        ({"weight": []}, "weight must be a list of finite numbers"),
        ({"bias": [1.0]}, "bias must be 2 numbers, got 1"),
        ({"at_bound": None}, "at_bound must be true or false"),
    ],
)
def test_load_refuses_what_save_did_not_write(tmp_path, change, message):
    content = {"kind": "vector_scaling", "weight": [1, 1], "bias": [0, 0], "at_bound": False}
    path = tmp_path / "other.json"
    path.write_text(json.dumps({**content, **change}), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        VectorScaling.load(path)
