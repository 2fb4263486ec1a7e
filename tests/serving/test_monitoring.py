"""Drift against its definition and a simulation; what the window forgets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import calibration

from cogcalib.deployment.answer import Answer
from cogcalib.deployment.calibration_file import SplitMetrics
from cogcalib.serving.monitoring import Monitor, drift, drift_floor

shares = (
    st.lists(st.integers(0, 50), min_size=20, max_size=20)
    .filter(any)
    .map(lambda counts: tuple(count / sum(counts) for count in counts))
)


@given(shares, shares)
def test_drift_is_a_distance(one: tuple[float, ...], other: tuple[float, ...]) -> None:
    assert drift(one, one) == 0
    assert drift(one, other) == drift(other, one)
    assert 0 <= drift(one, other) <= 1 + 1e-12
    # The most that any set of bins differs by.
    above = sum(max(0.0, a - b) for a, b in zip(one, other, strict=True))
    assert drift(one, other) == pytest.approx(above, abs=1e-12)


def test_the_floor_is_what_chance_shows() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(20, 2.0))
    n, m = 1000, 400
    seen, expected = rng.multinomial(n, p, 4000) / n, rng.multinomial(m, p, 4000) / m
    simulated = 0.5 * np.abs(seen - expected).sum(axis=1).mean()
    assert drift_floor(p, n, m) == pytest.approx(simulated, rel=0.02)


def answer(confidence: float, abstain: bool = False) -> Answer:
    return Answer(" A", confidence, confidence, abstain)


def test_the_window_forgets() -> None:
    histogram = (0.0,) * 19 + (1.0,)
    split = SplitMetrics("calibration", 500, "0" * 64, {})
    made = calibration(confidence_histogram=histogram, metrics=(split,))
    recent = Monitor(made, 4, lambda: 0.0).recent
    assert math.isnan(recent.mean_confidence())
    assert math.isnan(recent.drift())
    for confidence in (0.2, 0.2, 0.2, 0.2):
        recent.add(answer(confidence, abstain=True))
    assert recent.drift() == 1
    assert recent.abstention_rate() == 1
    for confidence in (1.0, 0.99, 0.96):
        recent.add(answer(confidence))
    assert recent.drift() == pytest.approx(0.25)
    assert recent.abstention_rate() == 0.25
    assert recent.mean_confidence() == pytest.approx((0.2 + 1.0 + 0.99 + 0.96) / 4)


def test_without_a_histogram_no_drift_is_shown_as_none() -> None:
    monitor = Monitor(calibration(), 4, lambda: 7.0)
    monitor.record(answer(0.7, abstain=True))
    page = monitor.page().decode()
    for line in (
        "cogcalib_confidence_drift NaN",
        "cogcalib_confidence_drift_floor NaN",
        "cogcalib_abstention_rate 1.0",
        "cogcalib_mean_confidence 0.7",
        "cogcalib_queue 7.0",
        'cogcalib_answers_total{abstain="true"} 1.0',
        'cogcalib_confidence_bucket{le="0.7"} 1.0',
        'cogcalib_confidence_bucket{le="0.65"} 0.0',
    ):
        assert line in page.splitlines()
