"""How many resamples an interval needs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogcalib.metrics import enough_resamples
from cogcalib.metrics.resampling import FEWEST_RESAMPLES

SHOWN = 1e-3
"""The last digit printed of a fraction: a tenth of a percentage point."""


def error_of_an_end(standard_error: float, resamples: int) -> float:
    """Standard deviation of the 2.5th percentile of many bootstraps of a normal statistic."""
    draws = np.random.default_rng(0).normal(scale=standard_error, size=(2000, resamples))
    return float(np.percentile(draws, 2.5, axis=1).std())


@pytest.mark.parametrize("n", [100_000, 300_000, 1_000_000, 10_000_000])
def test_no_printed_digit_is_lost(n):
    resamples = enough_resamples(n, 1000)
    assert error_of_an_end(0.5 / np.sqrt(n), resamples) < SHOWN / 6


def test_error_of_the_fewest_is_as_documented():
    assert error_of_an_end(1.0, FEWEST_RESAMPLES) == pytest.approx(0.17, abs=0.02)


@given(st.integers(1, 10**9), st.integers(1, 5000))
def test_never_more_than_asked_and_all_of_them_up_to_a_hundred_thousand(n, most):
    found = enough_resamples(n, most)
    assert found <= most
    assert found == most or found >= FEWEST_RESAMPLES
    assert found == most or n * most > 1e8
