"""Strength, margin and support of a penalty, chosen on the calibration split by a stated rule."""

from cogcalib.harness.tuning.rules import (
    ACCURACY_FLOOR,
    GRID,
    MARGINS,
    RULES,
    Choice,
    Rule,
    Trial,
    candidates,
    choose,
    choose_support,
    is_tunable,
    measure,
    read_trial,
)
from cogcalib.harness.tuning.search import tune

__all__ = [
    "ACCURACY_FLOOR",
    "GRID",
    "MARGINS",
    "RULES",
    "Choice",
    "Rule",
    "Trial",
    "candidates",
    "choose",
    "choose_support",
    "is_tunable",
    "measure",
    "read_trial",
    "tune",
]
