"""Input that both maps of a confidence refuse, by name."""

from __future__ import annotations

import numpy as np
import pytest

from cogcalib.posthoc import IsotonicCalibration, PlattScaling


@pytest.fixture(params=[PlattScaling, IsotonicCalibration])
def calibrator(request):
    return request.param()


@pytest.mark.parametrize("split", ["test", "train", ""])
def test_only_the_calibration_split_may_be_fitted(calibrator, split):
    with pytest.raises(ValueError, match=f"split must be 'calibration'.*'{split}'"):
        calibrator.fit([0.5, 0.6], [True, False], split=split)


@pytest.mark.parametrize(
    ("confidence", "correct", "message"),
    [
        ([], [], r"confidence must have shape \[n\], n at least 1"),
        ([[0.5]], [[True]], r"confidence must have shape \[n\]"),
        ([0.5, 0.6], [True], r"correct must have shape \[2\], got \(1,\)"),
        ([0.5, 1.1], [True, False], r"confidence must lie in \[0, 1\], got 1.1"),
        ([50.0, 99.0], [True, False], r"confidence must lie in \[0, 1\], got 50.0"),
        ([0.5, np.nan], [True, False], r"confidence must lie in \[0, 1\], got nan"),
        (["a"], [True], "confidence must be numbers"),
        ([0.5, 0.6], [2, 0], "correct must be true or false"),
        ([0.5], ["right"], "correct must be true or false"),
    ],
)
def test_malformed_arrays_are_named(calibrator, confidence, correct, message):
    with pytest.raises(ValueError, match=message):
        calibrator.fit(confidence, correct)


def test_transform_refuses_percent(calibrator):
    calibrator.fit([0.5, 0.6], [True, False])
    with pytest.raises(ValueError, match=r"confidence must lie in \[0, 1\], got 87"):
        calibrator.transform([87.0])
