"""Post-hoc calibration: fitted on the calibration split of a trained model, stored as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogcalib.lazy import import_on_use

if TYPE_CHECKING:
    from cogcalib.posthoc.isotonic import IsotonicCalibration
    from cogcalib.posthoc.platt import PlattScaling
    from cogcalib.posthoc.temperature import TemperatureScaling
    from cogcalib.posthoc.vector import VectorScaling

__all__ = ["IsotonicCalibration", "PlattScaling", "TemperatureScaling", "VectorScaling"]

import_on_use(
    __name__,
    {
        "cogcalib.posthoc.isotonic": ["IsotonicCalibration"],
        "cogcalib.posthoc.platt": ["PlattScaling"],
        "cogcalib.posthoc.temperature": ["TemperatureScaling"],
        "cogcalib.posthoc.vector": ["VectorScaling"],
    },
)
