"""Isotonic regression with ties, reduced to the points where the fitted function bends."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

Floats = NDArray[np.float64]


def isotonic_fit(
    values: Floats, outcomes: NDArray[Any], *, increasing: bool
) -> tuple[Floats, Floats]:
    """The monotone function of `values` that is closest to `outcomes` in the squared error.

    Equal values are pooled first, then adjacent violators. Between the points returned the function
    is linear, beyond them constant.

    Args:
        values: ``[n]``, n >= 1.
        outcomes: ``[n]``.
        increasing: Whether it never falls; else it never rises.

    Returns:
        Distinct values where the function bends, ascending, and the function there, both ``[k]``.
    """
    points, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean = np.bincount(index, weights=outcomes) / counts
    fitted = isotonic_regression(mean, weights=counts, increasing=increasing).x
    bends = np.ones(len(points), dtype=bool)
    # Inside a level stretch nothing bends.
    bends[1:-1] = (fitted[1:-1] != fitted[:-2]) | (fitted[1:-1] != fitted[2:])
    return points[bends], fitted[bends]
