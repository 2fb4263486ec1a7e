"""SmoothECE against its definition, written out, and against the authors' package."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cogcalib.metrics import smooth_calibration_error
from cogcalib.metrics.smooth import residual_spectrum, smoothed_errors

predictions = st.lists(
    st.tuples(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0])), st.booleans()),
    min_size=1,
    max_size=40,
)


def sample(n: int, seed: int = 0, power: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """n predictions that are right with probability confidence**power."""
    rng = np.random.default_rng(seed)
    confidence = rng.random(n)
    return confidence, rng.random(n) < confidence**power


def direct_error(confidence: np.ndarray, correct: np.ndarray, bandwidth: float) -> float:
    """smECE at a bandwidth: the integral of the double sum over mirror images and predictions."""
    t = np.linspace(0, 1, 4001)
    smoothed = np.zeros_like(t)
    for c, y in zip(confidence, correct, strict=True):
        for image in range(-4, 5):
            for centre in (2 * image + c, 2 * image - c):
                density = np.exp(-0.5 * ((t - centre) / bandwidth) ** 2)
                smoothed += (c - y) * density / (bandwidth * np.sqrt(2 * np.pi))
    return float(np.trapezoid(np.abs(smoothed) / len(confidence), t))


def direct_fixed_point(confidence: np.ndarray, correct: np.ndarray) -> float:
    low, high = 0.0, 1.0
    for _ in range(16):
        middle = (low + high) / 2
        if direct_error(confidence, correct, middle) > middle:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def smoothed_error(spectrum: np.ndarray, bandwidth: float) -> float:
    """smECE at a bandwidth, from the spectrum of the residuals."""
    rows = np.zeros(1, dtype=np.intp)
    return float(smoothed_errors(spectrum[np.newaxis], np.array([bandwidth]), rows)[0])


@pytest.mark.parametrize("bandwidth", [0.01, 0.05, 0.2, 1.0])
@pytest.mark.parametrize("power", [0.3, 1.0, 2.0])
def test_at_a_fixed_bandwidth_equals_the_double_sum(bandwidth, power):
    confidence, correct = sample(60, power=power)
    confidence[:4] = [0.0, 0.0, 1.0, 1.0]
    spectrum = residual_spectrum(confidence, correct)
    direct = direct_error(confidence, correct, bandwidth)
    assert smoothed_error(spectrum, bandwidth) == pytest.approx(direct, abs=2e-5)


@pytest.mark.parametrize("power", [0.3, 1.0, 4.0])
def test_equals_the_fixed_point_of_the_double_sum(power):
    confidence, correct = sample(40, seed=3, power=power)
    direct = direct_fixed_point(confidence, correct)
    assert smooth_calibration_error(confidence, correct) == pytest.approx(direct, abs=5e-5)


# Values of relplot 1.0.3, the authors' package (smECE with its default kernel), on `sample`.
RELPLOT = {
    (100, 0.5): 0.13346,
    (100, 1.0): 0.05875,
    (100, 2.0): 0.20818,
    (1000, 0.5): 0.17415,
    (1000, 1.0): 0.02978,
    (1000, 2.0): 0.14977,
    (10000, 0.5): 0.16171,
    (10000, 1.0): 0.01402,
    (10000, 2.0): 0.17636,
}


@pytest.mark.parametrize(("n", "power"), RELPLOT)
def test_agrees_with_relplot(n, power):
    """To within 1/1024, the step of relplot's search for the bandwidth."""
    value = smooth_calibration_error(*sample(n, power=power))
    assert value == pytest.approx(RELPLOT[n, power], abs=1 / 1024)


@settings(deadline=None)
@given(predictions, st.randoms(use_true_random=False))
def test_ignores_the_order_of_predictions(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    one, other = (smooth_calibration_error(*zip(*table, strict=True)) for table in (rows, shuffled))
    assert one == pytest.approx(other, abs=1e-8)


@settings(deadline=None)
@given(predictions)
def test_lies_between_the_mean_and_the_mean_absolute_residual(rows):
    confidence, correct = map(np.array, zip(*rows, strict=True))
    value = smooth_calibration_error(confidence, correct)
    residual = confidence - correct
    assert abs(residual.mean()) - 1e-8 <= value <= np.abs(residual).mean() + 1e-8


@settings(deadline=None)
@given(predictions)
def test_smoothing_more_never_raises_the_error(rows):
    spectrum = residual_spectrum(*map(np.array, zip(*rows, strict=True)))
    errors = [smoothed_error(spectrum, bandwidth) for bandwidth in (0.001, 0.01, 0.1, 0.5, 1.0)]
    assert (np.diff(errors) <= 5e-6).all()


@pytest.mark.parametrize(
    ("confidence", "correct", "error"),
    [(1.0, True, 0.0), (1.0, False, 1.0), (0.0, False, 0.0), (0.0, True, 1.0)],
)
def test_exactly_zero_and_one(confidence, correct, error):
    assert smooth_calibration_error([confidence] * 5, [correct] * 5) == pytest.approx(error)


def test_does_not_jump_where_a_bin_edge_would_be():
    correct = [True, False] * 50
    below, above = ([np.nextafter(0.6, side)] * 50 + [0.65] * 50 for side in (0, 1))
    difference = smooth_calibration_error(below, correct) - smooth_calibration_error(above, correct)
    assert abs(difference) < 1e-8


def test_calibrated_model_tends_to_zero():
    small, large = (smooth_calibration_error(*sample(n)) for n in (1_000, 1_000_000))
    assert large < 0.01
    assert large < small / 3


def test_rejects_malformed_arrays():
    with pytest.raises(ValueError, match="confidence must lie in"):
        smooth_calibration_error([2.0], [True])
