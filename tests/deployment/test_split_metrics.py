"""Metrics and reliability bins of a set of questions, against `cogcalib.metrics`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cogcalib.deployment.calibration_file import (
    AnswerFormat,
    Calibration,
    ModelIdentity,
    ReliabilityBins,
    read_calibration,
    write_calibration,
)
from cogcalib.deployment.split_metrics import (
    Graded,
    confidence_histogram,
    reliability_bins,
    split_metrics,
)
from cogcalib.metrics import brier_score, expected_calibration_error


def drawn(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.25, 1, n)
    return confidence, generator.uniform(size=n) < confidence**2


def test_metrics_are_those_of_the_metrics_room() -> None:
    confidence, correct = drawn()
    found = split_metrics("calibration", "ab", Graded(confidence, correct, -np.log(confidence)))
    ece = found.raw["ece"]
    assert ece["value"] == expected_calibration_error(confidence, correct)
    assert ece["low"] < ece["value"] < ece["high"]
    assert found.raw["brier"]["value"] == brier_score(confidence, correct)
    assert found.raw["nll"]["value"] == pytest.approx(-np.log(confidence).mean())
    assert (found.n, found.calibrated, found.calibrated_bins) == (400, {}, None)


def test_bins_give_back_the_ece() -> None:
    confidence, correct = drawn()
    bins = reliability_bins(confidence, correct)
    gaps = np.abs(np.array(bins.accuracy) - bins.confidence) * bins.count
    assert gaps.sum() / 400 == pytest.approx(expected_calibration_error(confidence, correct))
    assert bins.count[0] == bins.confidence[0] == bins.accuracy[0] == 0


def test_what_has_no_number_is_left_out(tmp_path: Path) -> None:
    confidence, correct = drawn(50)
    nll = np.where(correct, 0.1, np.inf)
    found = split_metrics("calibration", "ab", Graded(confidence, correct, nll))
    assert "nll" not in found.raw
    whole = Calibration(
        ModelIdentity("atlas", "ab", None, "cd"),
        AnswerFormat("options", "options"),
        metrics=(found,),
        confidence_histogram=confidence_histogram(confidence),
    )
    write_calibration(tmp_path, whole)
    assert replace(read_calibration(tmp_path), versions={}) == whole


def test_histogram_has_shares_of_all_confidences() -> None:
    shares = confidence_histogram([0.0, 0.05, 0.051, 1.0])
    assert (shares[0], shares[1], shares[19], sum(shares)) == (0.5, 0.25, 0.25, 1.0)


def test_sets_of_different_length_and_bins_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="same questions"):
        split_metrics("test", "ab", Graded([0.5], [True]), Graded([0.5, 0.6], [True, True]))
    with pytest.raises(ValueError, match="each bin"):
        ReliabilityBins((1, 2), (0.5,), (0.5,))
