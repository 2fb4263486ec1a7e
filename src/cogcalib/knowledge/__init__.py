"""What a model knows: thresholds on its NLL, and probing it before any training."""

from __future__ import annotations

from cogcalib.knowledge.probe import probe, renderings
from cogcalib.knowledge.threshold import estimate_threshold

__all__ = ["estimate_threshold", "probe", "renderings"]
