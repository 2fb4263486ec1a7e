"""The cut on the NLL that best tells known examples from unknown ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cogcalib.records import Threshold


def estimate_threshold(nll: ArrayLike, known: ArrayLike, step: int | None = None) -> Threshold:
    """The cut t that maximises TPR(t) + TNR(t) when NLL <= t is taken for known.

    Exact: sorting and cumulative sums visit every cut there is, where Wang et al. (ACL 2025, arXiv
    2505.20903) search a grid. t is the midpoint between neighbouring distinct NLLs, the lowest of
    equal maxima. Nothing but the order of the NLLs decides on which side an example falls.

    The cuts above and below all examples count too; each has TPR + TNR = 1. Where no cut does
    better, because the known examples have no lower NLL than the unknown ones, the lowest wins:
    t = -inf, nobody counts as known.

    Args:
        nll: NLL of each calibration example in nats, ``[n]``; +inf is allowed.
        known: Whether the model answers the example correctly by itself, ``[n]`` bool.
        step: Optimiser step to record, or None outside training.

    Returns:
        The threshold; +inf if every example is known, -inf if none is.

    Raises:
        ValueError: If the arrays are empty, differ in length, or hold something else.
    """
    values, labels = _checked(nll, known)
    n_known = int(labels.sum())
    n_unknown = len(labels) - n_known
    if n_known == 0 or n_unknown == 0:
        value = np.inf if n_unknown == 0 else -np.inf
        return Threshold(value, 0.0, 1.0, n_known, n_unknown, step)

    distinct, rank = np.unique(values, return_inverse=True)
    # Cut k takes the k lowest distinct NLLs for known, k = 0 ... len(distinct).
    true_known = _cumulative(np.bincount(rank[labels], minlength=len(distinct)))
    false_known = _cumulative(np.bincount(rank[~labels], minlength=len(distinct)))
    # TPR + TNR - 1 over the common denominator: integers have no rounding to break ties by.
    gain = true_known * n_unknown - false_known * n_known
    best = int(gain.argmax())
    right = true_known[best] + n_unknown - false_known[best]
    return Threshold(
        value=_cut(distinct, best),
        separation=float(gain[best] / (n_known * n_unknown)),
        accuracy=float(right / len(labels)),
        n_known=n_known,
        n_unknown=n_unknown,
        step=step,
    )


def _cut(distinct: np.ndarray, k: int) -> float:
    if k == 0:
        return -np.inf
    below, above = float(distinct[k - 1]), float(distinct[k])
    middle = below + (above - below) / 2
    # Neighbouring floats have no midpoint, and an infinite one would take all for known.
    return middle if middle < above else below


def _cumulative(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _checked(nll: ArrayLike, known: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    values, labels = np.asarray(nll, dtype=np.float64), np.asarray(known)
    if values.ndim != 1 or values.shape != labels.shape:
        raise ValueError(
            f"nll and known must be one-dimensional and of equal length, "
            f"got shapes {values.shape} and {labels.shape}"
        )
    if len(values) == 0:
        raise ValueError("nll and known must hold at least one example, got none")
    if np.isnan(values).any() or (values == -np.inf).any():
        position = int(np.argmax(np.isnan(values) | (values == -np.inf)))
        raise ValueError(f"nll must be a number > -inf, got {values[position]} at {position}")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"known must hold booleans (or 0 and 1), got dtype {labels.dtype}")
    return values, labels.astype(bool)
