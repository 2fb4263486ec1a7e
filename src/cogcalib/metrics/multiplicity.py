"""Several comparisons at once: p-values that hold for all of them together."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cogcalib.arrays import as_array


def holm(p_values: ArrayLike) -> list[float]:
    """p-values adjusted for the number of comparisons (Holm, Scandinavian J. of Statistics 1979).

    The k-th smallest of m is multiplied by m - k + 1, is at least the adjusted one before it and at
    most 1. Calling those below a level significant is wrong about any true null hypothesis with at
    most that probability, whatever the dependence between the comparisons.

    Args:
        p_values: Of the comparisons that were settled on beforehand, [m].

    Returns:
        Adjusted p-values, [m], in the same order.

    Raises:
        ValueError: If a p-value lies outside [0, 1] or is nan.
    """
    values = as_array("p_values", p_values).astype(np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p_values must be [m] and lie in [0, 1], got {values.tolist()}")
    order = np.argsort(values, kind="stable")
    raised = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return [float(each) for each in adjusted]
