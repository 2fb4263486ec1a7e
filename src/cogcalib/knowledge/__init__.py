"""Knowledge of a model: thresholds on its NLL, and probing it before any training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cogcalib.lazy import import_on_use

if TYPE_CHECKING:
    from cogcalib.knowledge.assess import assess
    from cogcalib.knowledge.detectors import Detection, Signals, detect, read_signals
    from cogcalib.knowledge.probe import probe, renderings
    from cogcalib.knowledge.probe_rows import Knowledge, Probed, load_probe
    from cogcalib.knowledge.slick_categories import (
        CATEGORIES,
        categorize,
        categorize_choice,
        hit_probability,
    )
    from cogcalib.knowledge.slick_settings import SlickSettings
    from cogcalib.knowledge.threshold import estimate_threshold
    from cogcalib.modeling.shots import Prompt, draw_prompts

__all__ = [
    "CATEGORIES",
    "Detection",
    "Knowledge",
    "Probed",
    "Prompt",
    "Signals",
    "SlickSettings",
    "assess",
    "categorize",
    "categorize_choice",
    "detect",
    "draw_prompts",
    "estimate_threshold",
    "hit_probability",
    "load_probe",
    "probe",
    "read_signals",
    "renderings",
]

import_on_use(
    __name__,
    {
        "cogcalib.knowledge.assess": ["assess"],
        "cogcalib.knowledge.detectors": ["Detection", "Signals", "detect", "read_signals"],
        "cogcalib.knowledge.probe": ["probe", "renderings"],
        "cogcalib.knowledge.probe_rows": ["Knowledge", "Probed", "load_probe"],
        "cogcalib.knowledge.slick_categories": [
            "CATEGORIES",
            "categorize",
            "categorize_choice",
            "hit_probability",
        ],
        "cogcalib.knowledge.slick_settings": ["SlickSettings"],
        "cogcalib.knowledge.threshold": ["estimate_threshold"],
        "cogcalib.modeling.shots": ["Prompt", "draw_prompts"],
    },
)
