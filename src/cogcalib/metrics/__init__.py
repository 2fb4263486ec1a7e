"""Metrics of confidence: calibration, scores, selective prediction, intervals.

Arrays in, floats out; every figure is a fraction.
"""

from __future__ import annotations

from cogcalib.metrics._validate import check_predictions
from cogcalib.metrics.bootstrap import (
    PairedDifference,
    bootstrap_interval,
    bootstrap_intervals,
    consistency_interval,
    differences_beyond_rounding,
    grouped_intervals,
    paired_bootstrap,
    paired_bootstraps,
)
from cogcalib.metrics.calibration import (
    ReliabilityCurve,
    ece_label,
    expected_calibration_error,
    maximum_calibration_error,
    reliability_curve,
)
from cogcalib.metrics.clustered import (
    clustered_paired_bootstrap,
    drawn_tasks_bootstrap,
    resample_weights,
    resampled_aurc,
    resampled_ece,
    resampled_mean,
)
from cogcalib.metrics.evaluation import (
    SMALL_N,
    Estimate,
    Evaluation,
    compare,
    evaluate,
    standard_metrics,
)
from cogcalib.metrics.multiplicity import holm
from cogcalib.metrics.resampling import enough_resamples
from cogcalib.metrics.scores import auroc, brier_score, mean, negative_log_likelihood
from cogcalib.metrics.selective import (
    accuracy_at_coverage,
    aurc,
    coverage_at_accuracy,
    risk_coverage_curve,
    selective_accuracy,
    threshold_at_accuracy,
)
from cogcalib.metrics.smooth import smooth_calibration_error

__all__ = [
    "SMALL_N",
    "Estimate",
    "Evaluation",
    "PairedDifference",
    "ReliabilityCurve",
    "accuracy_at_coverage",
    "aurc",
    "auroc",
    "bootstrap_interval",
    "bootstrap_intervals",
    "brier_score",
    "check_predictions",
    "clustered_paired_bootstrap",
    "compare",
    "consistency_interval",
    "coverage_at_accuracy",
    "differences_beyond_rounding",
    "drawn_tasks_bootstrap",
    "ece_label",
    "enough_resamples",
    "evaluate",
    "expected_calibration_error",
    "grouped_intervals",
    "holm",
    "maximum_calibration_error",
    "mean",
    "negative_log_likelihood",
    "paired_bootstrap",
    "paired_bootstraps",
    "reliability_curve",
    "resample_weights",
    "resampled_aurc",
    "resampled_ece",
    "resampled_mean",
    "risk_coverage_curve",
    "selective_accuracy",
    "smooth_calibration_error",
    "standard_metrics",
    "threshold_at_accuracy",
]
