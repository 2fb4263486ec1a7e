"""How far a confidence can be trusted: calibration, scores, selective prediction, intervals.

Arrays in, floats out; every figure is a fraction.
"""

from __future__ import annotations

from cogcalib.metrics.bootstrap import (
    PairedDifference,
    bootstrap_interval,
    consistency_interval,
    paired_bootstrap,
)
from cogcalib.metrics.calibration import (
    ReliabilityCurve,
    expected_calibration_error,
    maximum_calibration_error,
    reliability_curve,
)
from cogcalib.metrics.scores import auroc, brier_score
from cogcalib.metrics.selective import accuracy_at_coverage, aurc
from cogcalib.metrics.smooth import smooth_calibration_error

__all__ = [
    "PairedDifference",
    "ReliabilityCurve",
    "accuracy_at_coverage",
    "aurc",
    "auroc",
    "bootstrap_interval",
    "brier_score",
    "consistency_interval",
    "expected_calibration_error",
    "maximum_calibration_error",
    "paired_bootstrap",
    "reliability_curve",
    "smooth_calibration_error",
]
