"""Alpha, margin and support of a penalty, chosen on the calibration split by a stated rule."""

from cogcalib.harness.tuning.grid import (
    GRID,
    MARGINS,
    Tuned,
    candidates,
    choose_alpha,
    choose_supports,
    is_tunable,
    read_trial,
)
from cogcalib.harness.tuning.search import tune

__all__ = [
    "GRID",
    "MARGINS",
    "Tuned",
    "candidates",
    "choose_alpha",
    "choose_supports",
    "is_tunable",
    "read_trial",
    "tune",
]
