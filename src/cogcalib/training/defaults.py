"""Defaults of the method, shared by the trainer and a configured run: plain numbers.

Nothing is imported here but the standard library, so that a configuration is read without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

STYLE_STEPS: Final = 0.2
"""Length of the style phase as a share of all optimiser steps. The records of atlas were made with
an eighth; between none and a third it makes no difference there."""

UNIT: Final = "example"
"""What is known or not as a whole."""

ALPHA: Final[Mapping[str, Mapping[str, float]]] = {
    "label_smoothing": {"vocab": 0.2, "options": 0.2},
    "margin": {"vocab": 0.2, "options": 0.2},
    "entropy": {"vocab": 0.4, "options": 0.4},
    # By definition: CE + R is the focal loss, a smaller alpha mixes it with cross-entropy.
    "focal": {"vocab": 1.0, "options": 1.0},
}
"""Weight of each penalty, by support: the best of a sweep on the calibration split of
atlas/country (docs/lab-log.md)."""

MARGIN: Final[Mapping[str, float]] = {"vocab": 8.0, "options": 2.0}
"""Logit gap that the penalty ``margin`` tolerates, by support; of the same sweep."""
