"""The arrays that calibrators are fitted to: checked, and cut into chunks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cogcalib.arrays import as_array

CHUNK = 1 << 20  # logits worked on at once: the working memory is a few MB whatever the vocabulary

Logits = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
Fractions = NDArray[np.float64]
Truths = NDArray[np.bool_]


def chunks(logits: Logits, size: int = CHUNK) -> Iterator[slice]:
    """Rows of `logits` in slices of about `size` numbers."""
    rows = max(1, size // logits.shape[1])
    return (slice(start, start + rows) for start in range(0, len(logits), rows))


def check_logits(logits: ArrayLike, labels: ArrayLike) -> tuple[Logits, Labels]:
    """Logits as float32 or float64 [n, K] and labels as integers [n].

    Raises:
        ValueError: If shapes do not match, logits are nan or +inf, a label is not an index of its
            row's options, or the label's logit is -inf.
    """
    scores = check_scores(logits)
    targets = as_array("labels", labels)
    n, options = scores.shape
    if targets.shape != (n,) or targets.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be integers of shape [{n}], got {targets.dtype} of shape {targets.shape}"
        )
    outside = (targets < 0) | (targets >= options)
    if outside.any():
        row = int(np.argmax(outside))
        raise ValueError(f"labels must lie in 0..{options - 1}, got {targets[row]} at row {row}")
    absent = np.isneginf(scores[np.arange(n), targets])
    if absent.any():
        row = int(np.argmax(absent))
        raise ValueError(f"logits must be finite at the label, got -inf in row {row}")
    return scores, targets


def check_scores(logits: ArrayLike) -> Logits:
    """Logits as float32 or float64 [n, K].

    Raises:
        ValueError: If they have another shape, or are nan or +inf.
    """
    scores = as_scores(logits)
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(
            f"logits must be numbers of shape [n, K], n and K at least 1, "
            f"got {scores.dtype} of shape {scores.shape}"
        )
    if scores.dtype not in (np.float32, np.float64):
        scores = scores.astype(np.float32 if scores.dtype == np.float16 else np.float64)
    for rows in chunks(scores):
        bad = ~(scores[rows] < np.inf).all(axis=1)
        if bad.any():
            raise ValueError(
                f"logits must be finite or -inf, got nan or +inf in row "
                f"{rows.start + int(np.argmax(bad))}"
            )
    return scores


def check_target(target: ArrayLike, scores: Logits) -> Fractions:
    """Distributions over the options of `scores`, float64 [n, K].

    Raises:
        ValueError: If the shape is another, a row is no distribution, or has a probability where
            its logit is -inf.
    """
    wanted = check_confidence(target)
    if wanted.shape != scores.shape:
        raise ValueError(f"target must have shape {list(scores.shape)}, got {list(wanted.shape)}")
    wrong = np.abs(wanted.sum(axis=1) - 1.0) > 1e-6
    wrong |= ((wanted > 0) & np.isneginf(scores)).any(axis=1)
    if wrong.any():
        raise ValueError(
            "target must hold distributions over the options whose logits are finite, got "
            f"{wanted[np.argmax(wrong)].tolist()} in row {int(np.argmax(wrong))}"
        )
    return wanted


def as_scores(logits: ArrayLike) -> Logits:
    """Logits of any shape, in their own precision.

    Raises:
        ValueError: If they are no numbers.
    """
    return _numbers("logits", logits)


def check_confidence(confidence: ArrayLike) -> Fractions:
    """Confidences as float64, any shape.

    Raises:
        ValueError: If they are no fractions.
    """
    values = _numbers("confidence", confidence).astype(np.float64)
    inside = (values >= 0.0) & (values <= 1.0)
    if not inside.all():
        raise ValueError(f"confidence must lie in [0, 1], got {values[~inside].flat[0]}")
    return values


def check_outcomes(confidence: ArrayLike, correct: ArrayLike) -> tuple[Fractions, Truths]:
    """Confidences and whether the answers were correct, both [n], n at least 1.

    Raises:
        ValueError: If shapes do not match, confidences are no fractions, or `correct` holds
            anything but truth values (or 0 and 1).
    """
    values, truths = check_confidence(confidence), as_array("correct", correct)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"confidence must have shape [n], n at least 1, got {values.shape}")
    if truths.shape != values.shape:
        raise ValueError(f"correct must have shape [{len(values)}], got {truths.shape}")
    if truths.dtype.kind not in "biuf" or not np.isin(truths, (0, 1)).all():
        raise ValueError(f"correct must be true or false, or 1 or 0, got {truths.dtype} {truths!r}")
    return values, truths.astype(bool)


def _numbers(name: str, array: ArrayLike) -> NDArray[Any]:
    values = as_array(name, array)
    if values.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be numbers, got {values.dtype} of shape {values.shape}")
    return values
