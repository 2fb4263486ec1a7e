"""Post-hoc calibration: fitted on the calibration split of a trained model, stored as JSON."""

from __future__ import annotations

from cogcalib.posthoc.isotonic import IsotonicCalibration
from cogcalib.posthoc.platt import PlattScaling
from cogcalib.posthoc.temperature import TemperatureScaling
from cogcalib.posthoc.vector import VectorScaling

__all__ = ["IsotonicCalibration", "PlattScaling", "TemperatureScaling", "VectorScaling"]
