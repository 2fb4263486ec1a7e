"""The isotonic fit: pooled adjacent violators, ties averaged, bends only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression


def isotonic_fit(
    x: NDArray[np.floating], y: NDArray[np.generic], *, increasing: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The monotone function of x that is closest to y in the least-squares sense.

    Equal x are one point, with the mean of their y. Solved by pooling adjacent violators.

    Args:
        x: Where, [n], n at least 1.
        y: The values there, numbers or truth values, [n].
        increasing: Non-decreasing; otherwise non-increasing.

    Returns:
        The points where the function bends, ascending, [k], and its values there, [k]. Between
        them it is linear; inside a level stretch there is no point.
    """
    points, index, counts = np.unique(x, return_inverse=True, return_counts=True)
    mean = np.bincount(index, weights=y) / counts
    fitted = isotonic_regression(mean, weights=counts, increasing=increasing).x
    level = np.concatenate([[False], fitted[1:] == fitted[:-1], [False]])
    bends = ~(level[1:] & level[:-1])
    return points[bends], fitted[bends]
