"""Post-hoc calibration: fitted on the calibration split of a trained model, stored as JSON."""

from __future__ import annotations

from cogcalib.posthoc.temperature import TemperatureScaling

__all__ = ["TemperatureScaling"]
