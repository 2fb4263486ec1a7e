"""Temperature scaling: what it must keep, what it must find, what it must refuse."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from cogcalib.posthoc import TemperatureScaling
from cogcalib.posthoc.temperature import BOUNDS, _nll_slope, token_log_probabilities

matrices = arrays(
    np.float64, st.tuples(st.integers(1, 12), st.integers(1, 6)), elements=st.floats(-30, 30)
)


def sample(n: int, options: int = 4, sharpness: float = 1.0, seed: int = 0):
    """Logits, and labels drawn from the softmax of the logits times `sharpness`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2.0, size=(n, options))
    cumulative = softmax(logits * sharpness, axis=1).cumsum(axis=1)
    return logits, (rng.random((n, 1)) > cumulative[:, :-1]).sum(axis=1)


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def cross_entropy(logits: np.ndarray, target: np.ndarray) -> float:
    return float(-(target * log_softmax(logits, axis=1)).sum(axis=1).mean())


@pytest.mark.parametrize("sharpness", [0.2, 0.7, 1.0, 3.0])
def test_finds_the_closest_to_a_distribution(sharpness):
    logits, _ = sample(300)
    target = softmax(np.random.default_rng(1).normal(logits * sharpness), axis=1)
    found = minimize_scalar(
        lambda log_t: cross_entropy(logits / np.exp(log_t), target),
        bounds=np.log(BOUNDS),
        method="bounded",
        options={"xatol": 1e-9},
    )
    scaling = TemperatureScaling().fit_distribution(logits, target)
    assert scaling.temperature_ == pytest.approx(np.exp(found.x), rel=1e-5)
    exact = TemperatureScaling().fit_distribution(logits, softmax(logits / 2.5, axis=1))
    assert exact.temperature_ == pytest.approx(2.5, rel=1e-6)


def test_a_distribution_that_is_certain_is_a_label():
    logits, labels = sample(200)
    certain = np.eye(logits.shape[1])[labels]
    by_distribution = TemperatureScaling().fit_distribution(logits, certain)
    assert by_distribution.temperature_ == TemperatureScaling().fit(logits, labels).temperature_


def test_an_option_that_a_row_lacks_changes_nothing():
    logits, _ = sample(50)
    target = softmax(logits / 2, axis=1) * 0.9 + 0.025
    wider = np.pad(logits, ((0, 0), (0, 1)), constant_values=-np.inf)
    found = TemperatureScaling().fit_distribution(wider, np.pad(target, ((0, 0), (0, 1))))
    expected = TemperatureScaling().fit_distribution(logits, target)
    assert found.temperature_ == pytest.approx(expected.temperature_, rel=1e-9)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ([[0.5, 0.5]], r"target must have shape \[2, 2\], got \[1, 2\]"),
        ([[1.0, 0.0], [0.5, 0.4]], r"finite, got \[0.5, 0.4\] in row 1"),
        ([[0.5, 0.5], [1.0, 0.0]], r"finite, got \[0.5, 0.5\] in row 0"),
        ([[1.0, 0.0], [1.5, -0.5]], r"must lie in \[0, 1\]"),
    ],
)
def test_what_is_no_distribution_is_refused(target, message):
    with pytest.raises(ValueError, match=message):
        TemperatureScaling().fit_distribution([[0.0, -np.inf], [0.0, 1.0]], target)


@settings(deadline=None)
@given(matrices, st.randoms(use_true_random=False))
def test_keeps_the_arg_max_and_never_raises_the_calibration_nll(logits, random):
    labels = np.array([random.randrange(logits.shape[1]) for _ in logits])
    scaling = TemperatureScaling().fit(logits, labels)
    scaled = scaling.transform(logits)
    # Rounding may merge the two largest logits, never swap them.
    rows, largest = np.arange(len(logits)), logits.argmax(axis=1)
    np.testing.assert_array_equal(scaled[rows, largest], scaled.max(axis=1))
    assert nll(scaled, labels) <= nll(logits, labels) + 1e-9
    assert BOUNDS[0] <= scaling.temperature_ <= BOUNDS[1]


@pytest.mark.parametrize("sharpness", [0.2, 0.7, 1.0, 3.0])
def test_finds_the_minimum_of_the_nll(sharpness):
    logits, labels = sample(300, sharpness=sharpness)
    found = minimize_scalar(
        lambda log_t: nll(logits / np.exp(log_t), labels),
        bounds=np.log(BOUNDS),
        method="bounded",
        options={"xatol": 1e-9},
    )
    scaling = TemperatureScaling().fit(logits, labels)
    assert scaling.temperature_ == pytest.approx(np.exp(found.x), rel=1e-5)
    assert not scaling.at_bound_


@pytest.mark.parametrize("beta", [0.1, 1.0, 4.0])
def test_slope_is_the_derivative_of_the_nll(beta):
    logits, labels = sample(50)
    step = 1e-5
    numeric = (nll(logits * (beta + step), labels) - nll(logits * (beta - step), labels)) / (
        2 * step
    )
    assert _nll_slope(logits, labels, beta) == pytest.approx(numeric, abs=1e-8)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.0])
def test_recovers_the_temperature_the_labels_were_drawn_with(sharpness):
    """Standard error about 0.01 at this n; at sharpness 1 the model is calibrated and T is 1."""
    logits, labels = sample(40_000, sharpness=sharpness)
    fitted = TemperatureScaling().fit(logits, labels).temperature_
    assert fitted == pytest.approx(1 / sharpness, rel=0.03)


@settings(deadline=None)
@given(st.floats(0.3, 3.0))
def test_scaling_the_logits_scales_the_temperature(factor):
    logits, labels = sample(100)
    plain = TemperatureScaling().fit(logits, labels)
    scaled = TemperatureScaling().fit(logits * factor, labels)
    assert scaled.temperature_ == pytest.approx(plain.temperature_ * factor, rel=1e-8)


def test_shifting_rows_changes_nothing():
    logits, labels = sample(100)
    shifted = logits + np.linspace(-50, 50, 100)[:, None]
    plain = TemperatureScaling().fit(logits, labels).temperature_
    assert TemperatureScaling().fit(shifted, labels).temperature_ == pytest.approx(plain, rel=1e-8)


def test_absent_options_count_for_nothing():
    """Rows of three options padded to five with -inf fit like the three alone."""
    logits, labels = sample(200, options=3)
    padded = np.concatenate([logits, np.full((200, 2), -np.inf)], axis=1)
    plain, ragged = (TemperatureScaling().fit(table, labels) for table in (logits, padded))
    assert ragged.temperature_ == pytest.approx(plain.temperature_, rel=1e-10)
    np.testing.assert_array_equal(np.isneginf(ragged.transform(padded)), np.isneginf(padded))


def test_many_rows_are_worked_on_in_chunks_alike(monkeypatch):
    logits, labels = sample(101)
    whole = TemperatureScaling().fit(logits, labels).temperature_
    monkeypatch.setattr("cogcalib.posthoc.temperature.CHUNK", 12)
    assert TemperatureScaling().fit(logits, labels).temperature_ == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float16, 2e-3)])
def test_lower_precision_gives_the_same_temperature(dtype, tolerance):
    logits, labels = sample(500, options=50)
    exact = TemperatureScaling().fit(logits, labels).temperature_
    scaling = TemperatureScaling().fit(logits.astype(dtype), labels)
    assert scaling.temperature_ == pytest.approx(exact, rel=tolerance)
    assert scaling.transform(logits.astype(dtype)).dtype == dtype


def test_fit_leaves_its_input_alone():
    logits, labels = sample(20)
    logits[0, (labels[0] + 1) % 4] = -np.inf
    before = logits.copy()
    TemperatureScaling().fit(logits, labels)
    np.testing.assert_array_equal(logits, before)


def test_bounds_hold_where_the_data_set_no_limit():
    logits, labels = np.eye(4) * 3.0, np.arange(4)
    always_right = TemperatureScaling().fit(logits, labels)
    assert (always_right.temperature_, always_right.at_bound_) == (BOUNDS[0], True)
    always_wrong = TemperatureScaling().fit(logits, (labels + 1) % 4)
    assert (always_wrong.temperature_, always_wrong.at_bound_) == (BOUNDS[1], True)


@pytest.mark.parametrize("logits", [np.zeros((5, 3)), np.ones((5, 1)) * 7])
def test_temperature_is_one_where_it_does_not_matter(logits):
    scaling = TemperatureScaling().fit(logits, np.zeros(5, dtype=int))
    assert (scaling.temperature_, scaling.at_bound_) == (1.0, False)


def test_fit_returns_the_object_and_transform_divides():
    scaling = TemperatureScaling()
    logits, labels = sample(50)
    assert scaling.fit(logits, labels, split="calibration") is scaling
    np.testing.assert_array_equal(scaling.transform(logits), logits / scaling.temperature_)
    np.testing.assert_array_equal(scaling.transform(logits[0]), logits[0] / scaling.temperature_)


@pytest.mark.parametrize("split", ["test", "train", "validation", ""])
def test_only_the_calibration_split_may_be_fitted(split):
    scaling = TemperatureScaling()
    with pytest.raises(ValueError, match=f"split must be 'calibration'.*'{split}'"):
        scaling.fit(*sample(10), split=split)
    assert not hasattr(scaling, "temperature_")


@pytest.mark.parametrize("use", [lambda s: s.transform([[1.0]]), lambda s: s.save("unused.json")])
def test_unfitted_raises(use):
    with pytest.raises(RuntimeError, match="TemperatureScaling is not fitted"):
        use(TemperatureScaling())


@pytest.mark.parametrize("separable", [True, False])
def test_save_and_load(tmp_path, separable):
    logits, labels = sample(50)
    scaling = TemperatureScaling().fit(logits, logits.argmax(axis=1) if separable else labels)
    loaded = TemperatureScaling.load(scaling.save(tmp_path / "run" / "temperature.json"))
    assert loaded.temperature_ == scaling.temperature_
    assert loaded.at_bound_ is scaling.at_bound_ is separable
    np.testing.assert_array_equal(loaded.transform(logits), scaling.transform(logits))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"kind": "platt", "temperature": 1.0}, "kind must be 'temperature_scaling', got 'platt'"),
        ({"temperature": 1.0}, "got None"),
        ([1.0], "got None"),
        ({"kind": "temperature_scaling"}, "temperature must be a positive number, got None"),
        (
            {"kind": "temperature_scaling", "temperature": -1.0, "at_bound": False},
            "temperature must be a positive number, got -1.0",
        ),
        (
            {"kind": "temperature_scaling", "temperature": 1.0},
            "at_bound must be true or false, got None",
        ),
    ],
)
def test_load_refuses_what_save_did_not_write(tmp_path, content, message):
    path = tmp_path / "other.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"other\.json: .*{message}"):
        TemperatureScaling.load(path)


def test_load_refuses_broken_json(tmp_path):
    path = tmp_path / "broken.json"
    path.write_text('{"kind": ', encoding="utf-8")
    with pytest.raises(ValueError, match=r"broken\.json: no valid JSON"):
        TemperatureScaling.load(path)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([1.0, 2.0], [0], r"logits must be numbers of shape \[n, K\].*got float64 of shape \(2,\)"),
        (np.zeros((0, 4)), [], r"got float64 of shape \(0, 4\)"),
        ([["a", "b"]], [0], "logits must be numbers"),
        ([[1.0, 2.0]], [0, 1], r"labels must be integers of shape \[1\]"),
        ([[1.0, 2.0]], [0.0], "got float64"),
        ([[1.0, 2.0], [1.0, 2.0]], [0, 2], r"labels must lie in 0..1, got 2 at row 1"),
        ([[1.0, 2.0]], [-1], r"labels must lie in 0..1, got -1 at row 0"),
        ([[1.0, 2.0], [1.0, np.nan]], [0, 0], "finite or -inf, got nan or .inf in row 1"),
        ([[1.0, np.inf]], [0], "got nan or .inf in row 0"),
        ([[1.0, 0.0], [1.0, -np.inf]], [0, 1], "finite at the label, got -inf in row 1"),
    ],
)
def test_malformed_arrays_are_named(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        TemperatureScaling().fit(logits, labels)


def log_loss(log_c: np.ndarray, right: np.ndarray) -> float:
    return -float(np.where(right, log_c, np.log(-np.expm1(log_c))).mean())


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.3, 3.0))
def test_no_temperature_gives_a_confidence_of_less_log_loss(seed, sharpness):
    logits, labels = sample(40, sharpness=sharpness, seed=seed)
    right = logits.argmax(axis=1) == labels

    def log_confidence(temperature: float) -> np.ndarray:
        return log_softmax(logits / temperature, axis=1).max(axis=1)

    scaling = TemperatureScaling().fit_confidence(log_confidence, right)
    found = log_loss(np.minimum(log_confidence(scaling.temperature_), -1e-12), right)
    for temperature in np.geomspace(*BOUNDS, 60):
        assert found <= log_loss(np.minimum(log_confidence(temperature), -1e-12), right) + 1e-6


def test_confidence_of_two_options_has_the_temperature_of_their_likelihood():
    logits, labels = sample(400, options=2, sharpness=0.4)
    scaling = TemperatureScaling().fit_confidence(
        lambda t: log_softmax(logits / t, axis=1).max(axis=1), logits.argmax(axis=1) == labels
    )
    alone = TemperatureScaling().fit(logits, labels)
    assert scaling.temperature_ == pytest.approx(alone.temperature_, rel=1e-4)


@pytest.mark.parametrize(("right", "bound"), [(True, BOUNDS[0]), (False, BOUNDS[1])])
def test_answers_all_alike_leave_a_confidence_at_a_bound(right, bound):
    logits, _ = sample(20)
    scaling = TemperatureScaling().fit_confidence(
        lambda t: log_softmax(logits / t, axis=1).max(axis=1), [right] * 20
    )
    assert (scaling.temperature_, scaling.at_bound_) == (bound, True)


def test_a_confidence_is_fitted_on_the_calibration_split_to_as_many_outcomes():
    with pytest.raises(ValueError, match="split must be 'calibration'"):
        TemperatureScaling().fit_confidence(lambda t: np.log([0.5]), [True], split="test")
    with pytest.raises(ValueError, match=r"correct must have shape \[2\]"):
        TemperatureScaling().fit_confidence(lambda t: np.log([0.5, 0.6]) / t, [True])


def test_log_probabilities_of_tokens_whatever_the_chunk(monkeypatch):
    logits, labels = sample(50)
    expected = log_softmax(logits / 1.7, axis=1)[np.arange(50), labels]
    np.testing.assert_allclose(token_log_probabilities(logits, labels, 1.7), expected, atol=1e-12)
    monkeypatch.setattr("cogcalib.posthoc.temperature.CHUNK", 12)
    np.testing.assert_allclose(token_log_probabilities(logits, labels, 1.7), expected, atol=1e-12)
