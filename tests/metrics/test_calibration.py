"""The binned errors against brute force, netcal, and each other."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cogcalib.metrics import (
    consistency_interval,
    ece_label,
    expected_calibration_error,
    maximum_calibration_error,
    reliability_curve,
)

# Values that sit on bin edges come up often, as do ties.
fractions = st.one_of(
    st.floats(0, 1), st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]), st.sampled_from([1 / 15, 0.5])
)
predictions = st.lists(st.tuples(fractions, st.booleans()), min_size=1, max_size=60)
binnings = st.sampled_from(["width", "mass"])
COUNTS = [1, 2, 5, 10, 15]


def sample(n: int, seed: int = 0, power: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """n predictions that are right with probability confidence**power."""
    rng = np.random.default_rng(seed)
    confidence = rng.random(n)
    return confidence, rng.random(n) < confidence**power


def gaps_by_loop(
    rows: list[tuple[float, bool]], bins: int, binning: str
) -> list[tuple[int, float]]:
    """(size, gap) of each occupied bin, one comparison at a time."""
    ranked = sorted(c for c, _ in rows)
    if binning == "width":
        edges = [float(Fraction(k, bins)) for k in range(1, bins)]
    else:
        edges = [ranked[-(-k * len(rows) // bins) - 1] for k in range(1, bins)]
    occupied: dict[int, list[tuple[float, bool]]] = {}
    for c, y in rows:
        occupied.setdefault(sum(c > edge for edge in edges), []).append((c, y))
    return [
        (len(members), abs(sum(y for _, y in members) - sum(c for c, _ in members)) / len(members))
        for members in occupied.values()
    ]


@settings(deadline=None)
@given(predictions, st.sampled_from(COUNTS), binnings)
def test_ece_and_mce_equal_a_loop_over_bins(rows, bins, binning):
    confidence, correct = zip(*rows, strict=True)
    gaps = gaps_by_loop(rows, bins, binning)
    ece = sum(size * gap for size, gap in gaps) / len(rows)
    mce = max(gap for _, gap in gaps)
    kwargs = {"bins": bins, "binning": binning}
    assert expected_calibration_error(confidence, correct, **kwargs) == pytest.approx(
        ece, abs=1e-12
    )
    assert maximum_calibration_error(confidence, correct, **kwargs) == pytest.approx(mce, abs=1e-12)


@settings(deadline=None)
@given(predictions, st.sampled_from(COUNTS), binnings, st.randoms(use_true_random=False))
def test_curve_ignores_the_order_of_predictions(rows, bins, binning, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    one, other = (
        reliability_curve(*zip(*table, strict=True), bins=bins, binning=binning)
        for table in (rows, shuffled)
    )
    np.testing.assert_array_equal(one.edges, other.edges)
    np.testing.assert_array_equal(one.count, other.count)
    np.testing.assert_array_equal(one.accuracy, other.accuracy)
    np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-12)


@settings(deadline=None)
@given(predictions, st.sampled_from(COUNTS), binnings)
def test_curve_holds_every_prediction_once_and_inside_its_bin(rows, bins, binning):
    confidence, correct = map(np.array, zip(*rows, strict=True))
    curve = reliability_curve(confidence, correct, bins=bins, binning=binning)
    full = curve.count > 0
    assert curve.count.sum() == len(rows)
    assert np.dot(curve.count[full], curve.accuracy[full]) == pytest.approx(correct.sum())
    assert (curve.confidence[full] >= curve.edges[:-1][full] - 1e-12).all()
    assert (curve.confidence[full] <= curve.edges[1:][full] + 1e-12).all()
    assert np.isnan(curve.confidence[~full]).all()
    assert np.isnan(curve.accuracy[~full]).all()


@pytest.mark.parametrize(
    ("confidence", "correct", "error"),
    [(1.0, True, 0.0), (1.0, False, 1.0), (0.0, False, 0.0), (0.0, True, 1.0)],
)
@pytest.mark.parametrize("binning", ["width", "mass"])
@pytest.mark.parametrize("n", [1, 7])
def test_exactly_zero_and_one(confidence, correct, error, binning, n):
    arrays = [confidence] * n, [correct] * n
    assert expected_calibration_error(*arrays, binning=binning) == error
    assert maximum_calibration_error(*arrays, binning=binning) == error


@pytest.mark.parametrize("bins", COUNTS)
def test_width_bins_are_closed_on_the_right(bins):
    edges = [k / bins for k in range(bins + 1)]
    curve = reliability_curve(edges, [True] * (bins + 1), bins=bins)
    # 0 shares the first bin with the edge above it; every other edge closes the bin below it.
    assert curve.count.tolist() == [2] + [1] * (bins - 1)
    above = np.nextafter(edges[:-1], 1.0)
    assert reliability_curve(above, [True] * bins, bins=bins).count.tolist() == [1] * bins


@st.composite
def values_at_edges(draw: st.DrawFn) -> tuple[int, np.ndarray]:
    """A number of bins, and confidences up to four float64 or float32 steps from its edges."""
    bins = draw(st.integers(1, 400))
    dtype = draw(st.sampled_from([np.float64, np.float32]))
    edge = st.integers(0, bins).map(lambda k: dtype(k / bins))
    drawn = draw(st.lists(st.tuples(edge, st.integers(-4, 4)), min_size=1, max_size=40))
    values = np.array([value for value, _ in drawn], dtype)
    steps = np.array([step for _, step in drawn])
    towards = np.where(steps > 0, 2, -1).astype(dtype)
    for taken in range(4):
        values = np.where(abs(steps) > taken, np.nextafter(values, towards), values)
    return bins, np.clip(values, 0, 1)


@settings(deadline=None, max_examples=300)
@given(values_at_edges(), st.data())
def test_width_bins_are_exact_next_to_their_edges(case, data):
    """Equal to the definition, k / bins < c <= (k + 1) / bins in float64, for every c."""
    bins, values = case
    edges = [k / bins for k in range(bins + 1)]
    expected = [0] * bins
    for value in values.astype(np.float64).tolist():
        (index,) = [
            k for k in range(bins) if edges[k] < value <= edges[k + 1] or (k == 0 and value == 0.0)
        ]
        expected[index] += 1
    correct = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    assert reliability_curve(values, correct, bins=bins).count.tolist() == expected


@pytest.mark.parametrize("binning", ["width", "mass"])
@pytest.mark.parametrize("n", [2**14 - 1, 2**14, 2**14 + 1, 100_000])
def test_chunks_leave_no_seam(binning, n):
    """Sizes around the chunk's: equal to one pass of numpy over everything."""
    confidence, correct = sample(n, seed=n)
    curve = reliability_curve(confidence, correct, binning=binning)
    index = np.searchsorted(curve.edges[1:-1], confidence, side="left")
    residual = np.bincount(index, weights=correct - confidence, minlength=15)
    np.testing.assert_array_equal(curve.count, np.bincount(index, minlength=15))
    assert expected_calibration_error(confidence, correct, binning=binning) == pytest.approx(
        np.abs(residual).sum() / n, abs=1e-14
    )
    assert np.dot(curve.count, curve.gap) / n == pytest.approx(
        np.abs(residual).sum() / n, abs=1e-14
    )


def test_rows_far_behind_are_checked_and_named():
    confidence, correct = np.full(100_000, 0.5), np.zeros(100_000)
    confidence[70_001] = 1.5
    with pytest.raises(ValueError, match=r"got 1\.5 at index 70001"):
        expected_calibration_error(confidence, correct)
    correct[90_002] = 2
    with pytest.raises(ValueError, match=r"got 2\.0 at index 90002"):
        reliability_curve(np.full(100_000, 0.5), correct)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_precision_of_the_input_does_not_change_the_bins(dtype):
    confidence, correct = sample(5000)
    confidence = confidence.astype(dtype)
    for labels in (correct, correct.astype(np.int8), correct.astype(np.float32)):
        assert expected_calibration_error(confidence, labels) == expected_calibration_error(
            confidence.astype(np.float64), correct
        )


def test_mass_bins_hold_equally_many_distinct_confidences():
    confidence, correct = sample(1000)
    for bins in (1, 7, 15, 1000):
        count = reliability_curve(confidence, correct, bins=bins, binning="mass").count
        assert count.sum() == 1000
        assert count.max() - count.min() <= 1


def test_mass_bins_keep_ties_together():
    curve = reliability_curve([0.5] * 9 + [0.9], [True] * 10, bins=5, binning="mass")
    assert sorted(curve.count.tolist()) == [0, 0, 0, 1, 9]


def test_cancelling_errors_show_in_separate_bins_only():
    confidence, correct = [0.1, 0.9], [True, False]
    assert expected_calibration_error(confidence, correct, bins=1) == 0.0
    assert expected_calibration_error(confidence, correct, bins=2) == pytest.approx(0.9)


@pytest.mark.parametrize("bins", [5, 15])
@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_equal_to_netcal(bins, power):
    """Random confidences: no value on an edge, where netcal closes bins on the left."""
    netcal = pytest.importorskip("netcal.metrics", reason="needs netcal, a development dependency")
    confidence, correct = sample(2000, power=power)
    labels = correct.astype(int)
    assert expected_calibration_error(confidence, correct, bins=bins) == pytest.approx(
        netcal.ECE(bins).measure(confidence, labels), abs=1e-12
    )
    assert maximum_calibration_error(confidence, correct, bins=bins) == pytest.approx(
        netcal.MCE(bins).measure(confidence, labels), abs=1e-12
    )


def torchmetrics_error(confidence, correct, bins: int = 15, norm: str = "l1") -> float:
    classification = pytest.importorskip(
        "torchmetrics.functional.classification", reason="needs torchmetrics"
    )
    torch = pytest.importorskip("torch")
    return classification.binary_calibration_error(
        torch.as_tensor(np.asarray(confidence)),
        torch.as_tensor(np.asarray(correct)).int(),
        n_bins=bins,
        norm=norm,
    ).item()


@pytest.mark.parametrize("bins", [5, 15])
@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_equal_to_torchmetrics(bins, power):
    """Random confidences below 1: no value on an edge, where torchmetrics closes on the left."""
    confidence, correct = sample(2000, power=power)
    assert expected_calibration_error(confidence, correct, bins=bins) == pytest.approx(
        torchmetrics_error(confidence, correct, bins), abs=1e-12
    )
    assert maximum_calibration_error(confidence, correct, bins=bins) == pytest.approx(
        torchmetrics_error(confidence, correct, bins, "max"), abs=1e-12
    )


def test_torchmetrics_keeps_certainty_in_a_bin_of_its_own():
    """Issue 3510 there: 1.0 is counted apart from 0.95, where gaps of opposite sign add up."""
    confidence, correct = [0.95, 0.95, 1.0, 1.0], [1, 1, 1, 0]
    assert expected_calibration_error(confidence, correct) == pytest.approx(0.225)
    assert torchmetrics_error(confidence, correct) == pytest.approx((2 * 0.05 + 1) / 4)


def test_other_libraries_close_bins_on_the_left():
    """On an edge, here 0.2 of 5 bins, a prediction counts with those above and not below it."""
    netcal = pytest.importorskip("netcal.metrics", reason="needs netcal, a development dependency")
    confidence, correct = np.array([0.1, 0.1, 0.2, 0.2]), np.array([0, 0, 1, 1])
    assert expected_calibration_error(confidence, correct, bins=5) == pytest.approx(0.35)
    assert torchmetrics_error(confidence, correct, 5) == pytest.approx(0.45)
    assert netcal.ECE(5).measure(confidence, correct) == pytest.approx(0.45)


def test_zero_lies_in_the_first_bin_everywhere():
    netcal = pytest.importorskip("netcal.metrics", reason="needs netcal, a development dependency")
    confidence, correct = np.array([0.0, 0.0, 0.01, 0.5]), np.array([0, 1, 0, 1])
    ours = expected_calibration_error(confidence, correct)
    assert ours == pytest.approx((0.99 + 0.5) / 4)
    assert netcal.ECE(15).measure(confidence, correct) == pytest.approx(ours)
    assert torchmetrics_error(confidence, correct) == pytest.approx(ours)


@pytest.mark.parametrize("binning", ["width", "mass"])
def test_perfectly_calibrated_sample_lies_in_its_interval_of_zero(binning):
    """Chance alone makes an ECE positive; consistency resampling says by how much."""

    def ece(confidence, correct):
        return expected_calibration_error(confidence, correct, binning=binning)

    inside = 0
    for seed in range(40):
        confidence, correct = sample(500, seed)
        low, high = consistency_interval(ece, confidence, resamples=200, seed=seed)
        inside += low <= ece(confidence, correct) <= high
    assert inside >= 33  # at a coverage of 0.95 fewer than 33 of 40 have a chance of 7e-4

    confidence, correct = sample(500, power=2.0)
    assert ece(confidence, correct) > consistency_interval(ece, confidence, resamples=200)[1]


def test_ece_of_a_calibrated_model_falls_with_the_root_of_n():
    mean = {
        n: np.mean([expected_calibration_error(*sample(n, seed)) for seed in range(30)])
        for n in (400, 40_000)
    }
    assert mean[400] / mean[40_000] == pytest.approx(10.0, rel=0.2)


def test_ece_tends_to_the_true_error_of_a_miscalibrated_model():
    confidence, correct = sample(1_000_000, power=2.0)
    # E|c - c^2| over uniform c = 1/2 - 1/3; c^2 < c, so binning hides nothing.
    assert expected_calibration_error(confidence, correct) == pytest.approx(1 / 6, abs=2e-3)


@pytest.mark.parametrize(
    ("confidence", "correct", "message"),
    [
        ([], [], "confidence must not be empty"),
        ([0.5], [], "correct must not be empty"),
        ([0.5, 0.5], [1], "confidence 2, correct 1"),
        ([[0.5]], [1], r"confidence must be one-dimensional, got shape \(1, 1\)"),
        ([0.5, 0.5], [[1, 0]], "correct must be one-dimensional"),
        ([0.5, 1.5, -2.0], [1, 0, 1], r"in \[0, 1\] .*got 1.5 at index 1"),
        ([0.5, float("nan")], [1, 0], "got nan at index 1"),
        ([float("inf")], [1], "got inf at index 0"),
        ([-0.1], [1], "got -0.1 at index 0"),
        (["high"], [1], "confidence must hold numbers"),
        ([0.5, 0.5], [1, 2], "correct must be boolean or 0 and 1, got 2 at index 1"),
        ([0.5, 0.5], [0.0, 0.3], "got 0.3 at index 1"),
        ([0.5], ["yes"], "correct must hold numbers"),
    ],
)
def test_malformed_arrays_are_named(confidence, correct, message):
    with pytest.raises(ValueError, match=message):
        expected_calibration_error(confidence, correct)


@pytest.mark.parametrize("bins", [0, -1, 2.5, True])
def test_bins_must_be_a_positive_whole_number(bins):
    with pytest.raises(ValueError, match=f"bins must be a whole number of at least 1, got {bins}"):
        expected_calibration_error([0.5], [True], bins=bins)


def test_binning_must_be_known():
    with pytest.raises(
        ValueError, match=r"binning must be one of .*'width', 'mass'.*got 'quantile'"
    ):
        expected_calibration_error([0.5], [True], binning="quantile")


def test_label_says_what_an_ece_rests_on():
    assert ece_label("options", 1172) == "15 equal-width bins, confidence: options, n = 1,172"
    assert (
        ece_label("mean", 80, bins=1, binning="mass")
        == "1 equal-mass bin, confidence: mean, n = 80"
    )
    with pytest.raises(ValueError, match="binning must be one of"):
        ece_label("mean", 80, binning="quantile")
    with pytest.raises(ValueError, match="n must be a whole number of at least 1, got 0"):
        ece_label("mean", 0)


def softmax_confidences(n: int, rng: np.random.Generator) -> np.ndarray:
    """Over four options, with a mean near 0.63."""
    odds = np.exp(1.6 * rng.normal(size=(n, 4)))
    return (odds / odds.sum(axis=1, keepdims=True)).max(axis=1)


@pytest.mark.parametrize(
    ("n", "mean", "low", "high"), [(1000, 0.035, 0.020, 0.051), (167, 0.084, 0.050, 0.127)]
)
def test_noise_floor_is_that_of_the_page(n, mean, low, high):
    """docs/metrics.md: what a perfectly calibrated model shows; 0.3 sqrt(B/n), not sqrt(B/n)."""
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert f"{100 * mean:.1f}" in page
    assert f"{100 * low:.1f} to {100 * high:.1f}" in page
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(400):
        confidence = softmax_confidences(n, rng)
        errors.append(expected_calibration_error(confidence, rng.random(n) < confidence))
    assert np.mean(errors) == pytest.approx(mean, rel=0.06)
    assert np.quantile(errors, [0.025, 0.975]) == pytest.approx([low, high], rel=0.1)
    assert np.mean(errors) / np.sqrt(15 / n) == pytest.approx(0.3, abs=0.03)


def test_noise_floor_follows_occupied_bins_and_spread():
    """docs/metrics.md: 0.8 sqrt(m/n) sqrt(mean of c (1 - c)), never above 0.4 sqrt(B/n)."""
    rng, n = np.random.default_rng(1), 2000
    for sample in (
        lambda: rng.uniform(0.25, 1, n),
        lambda: 1 - 0.75 * rng.beta(0.5, 2, n),
        lambda: softmax_confidences(n, rng),
        lambda: rng.uniform(0, 1, n),
    ):
        found, rule = [], []
        for _ in range(100):
            confidence = sample()
            found.append(expected_calibration_error(confidence, rng.random(n) < confidence))
            occupied = len(np.unique(np.ceil(confidence * 15)))
            rule.append(0.8 * np.sqrt(occupied / n * np.mean(confidence * (1 - confidence))))
        assert np.mean(found) < 0.4 * np.sqrt(15 / n)
        assert np.mean(found) == pytest.approx(np.mean(rule), rel=0.2)
