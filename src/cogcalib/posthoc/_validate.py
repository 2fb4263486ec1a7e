"""Checks of what is fitted on, and the files fitted numbers are kept in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

CHUNK = 1 << 20  # logits worked on at once: the working memory is a few MB whatever the vocabulary

Logits = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
Fractions = NDArray[np.float64]


def chunks(logits: Logits, size: int = CHUNK) -> Iterator[slice]:
    """Rows of `logits` in slices of about `size` numbers."""
    rows = max(1, size // logits.shape[1])
    return (slice(start, start + rows) for start in range(0, len(logits), rows))


def check_split(split: str, what: str) -> None:
    """Raise unless the rows come from the calibration split.

    Raises:
        ValueError: If `split` is another.
    """
    if split != "calibration":
        raise ValueError(f"split must be 'calibration': {what} is never tuned on {split!r}")


def check_logits(logits: ArrayLike, labels: ArrayLike) -> tuple[Logits, Labels]:
    """Logits as float32 or float64 [n, K] and labels as integers [n].

    Raises:
        ValueError: If shapes do not match, logits are nan or +inf, a label is not an index of its
            row's options, or the label's logit is -inf.
    """
    scores = check_scores(logits)
    targets = np.asarray(labels)
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
    scores = np.asarray(logits)
    if scores.ndim != 2 or scores.size == 0 or scores.dtype.kind not in "iuf":
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


def check_confidence(confidence: ArrayLike) -> Fractions:
    """Confidences as float64, any shape.

    Raises:
        ValueError: If they are no fractions.
    """
    values = np.asarray(confidence)
    if values.dtype.kind not in "iuf":
        raise ValueError(f"confidence must be numbers, got {values.dtype}")
    values = values.astype(np.float64)
    inside = (values >= 0.0) & (values <= 1.0)
    if not inside.all():
        raise ValueError(f"confidence must lie in [0, 1], got {values[~inside].flat[0]}")
    return values


def check_outcomes(
    confidence: ArrayLike, correct: ArrayLike
) -> tuple[Fractions, NDArray[np.bool_]]:
    """Confidences and whether the answers were right, both [n], n at least 1.

    Raises:
        ValueError: If shapes do not match, confidences are no fractions, or `correct` holds
            anything but truth values (or 0 and 1).
    """
    values, right = check_confidence(confidence), np.asarray(correct)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"confidence must have shape [n], n at least 1, got {values.shape}")
    if right.shape != values.shape:
        raise ValueError(f"correct must have shape [{len(values)}], got {right.shape}")
    if right.dtype.kind not in "biuf" or not np.isin(right, (0, 1)).all():
        raise ValueError(f"correct must be true or false, or 1 or 0, got {right.dtype} {right!r}")
    return values, right.astype(bool)


def read_fitted(path: Path | str, kind: str) -> dict[str, Any]:
    """The content of a file that a calibrator's `save` wrote.

    Raises:
        ValueError: If the file is no JSON or holds another kind of calibrator.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: no valid JSON: {error}") from error
    found = content.get("kind") if isinstance(content, dict) else None
    if found != kind:
        raise ValueError(f"{path}: kind must be {kind!r}, got {found!r}")
    return dict(content)


def read_numbers(content: dict[str, Any], name: str, path: Path | str) -> Fractions:
    """A list of finite numbers out of such a file, float64 [n], n at least 1.

    Raises:
        ValueError: If it is anything else.
    """
    values = content.get(name)
    if not isinstance(values, list) or not values or not all(map(_is_number, values)):
        raise ValueError(f"{path}: {name} must be a list of finite numbers, got {values!r}")
    return np.array(values, dtype=np.float64)


def read_number(content: dict[str, Any], name: str, path: Path | str) -> float:
    """A finite number out of such a file.

    Raises:
        ValueError: If it is anything else.
    """
    value = content.get(name)
    if not _is_number(value):
        raise ValueError(f"{path}: {name} must be a finite number, got {value!r}")
    return float(value)  # type: ignore[arg-type]


def _is_number(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and bool(abs(value) < np.inf)
    )
