"""The checks every metric shares. Each error names the argument, what is allowed and what came."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cogcalib.arrays import as_array

FloatVector = NDArray[np.float64]
BoolVector = NDArray[np.bool_]

CHUNK = 1 << 14
"""Predictions taken at a time: what is computed from them stays in the processor's cache."""


def check_predictions(confidence: ArrayLike, correct: ArrayLike) -> tuple[FloatVector, BoolVector]:
    """The two arrays of a metric, as float64 and bool, both [n].

    Raises:
        ValueError: Unless both are one-dimensional, non-empty and equally long, `confidence` lies
            in [0, 1] and `correct` is boolean or holds only 0 and 1.
    """
    confidences = check_confidence(confidence)
    corrects = check_correct(correct)
    check_same_length(confidence=confidences, correct=corrects)
    return confidences, corrects


def prediction_chunks(
    confidence: ArrayLike, correct: ArrayLike
) -> Iterator[tuple[FloatVector, BoolVector]]:
    """What `check_predictions` returns, `CHUNK` rows at a time: neither array is copied whole.

    Raises:
        ValueError: As `check_predictions`, when the chunk with the malformed row is reached.
    """
    confidences, corrects = _vector("confidence", confidence), _vector("correct", correct)
    check_same_length(confidence=confidences, correct=corrects)
    for start in range(0, len(confidences), CHUNK):
        rows = slice(start, start + CHUNK)
        yield _fractions(confidences[rows], start), _truths(corrects[rows], start)


def check_confidence(confidence: ArrayLike) -> FloatVector:
    """`confidence` as float64 [n]; raises ValueError unless every value is a number in [0, 1]."""
    return _fractions(_vector("confidence", confidence))


def check_correct(correct: ArrayLike) -> BoolVector:
    """`correct` as bool [n]; raises ValueError unless it is boolean or holds only 0 and 1."""
    return _truths(_vector("correct", correct))


def check_logprob(name: str, values: ArrayLike) -> FloatVector:
    """`values` as float64 [n]; raises ValueError unless every value is a number of at most 0."""
    logprobs = _vector(name, values).astype(np.float64, copy=False)
    if not logprobs.max() <= 0.0:
        index = int(np.argmin(logprobs <= 0.0))
        raise ValueError(
            f"{name} must be at most 0 (a log-probability), got {logprobs[index]} at index {index}"
        )
    return logprobs


def check_same_length(**arrays: NDArray[np.generic]) -> int:
    """The common number of rows of the named arrays.

    Raises:
        ValueError: If one has no rows, or they differ.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    empty = [name for name, length in lengths.items() if length == 0]
    if empty:
        raise ValueError(f"{empty[0]} must not be empty, got 0 rows")
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"arrays must have the same length, got {listed}")
    return next(iter(lengths.values()))


def check_whole(name: str, value: int, *, least: int = 1) -> int:
    """`value` as int; raises ValueError unless it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)


def check_open_fraction(name: str, value: float, *, one_allowed: bool = False) -> float:
    """`value` as float; raises ValueError unless it lies in (0, 1), or (0, 1] if `one_allowed`."""
    if not (0.0 < value < 1.0 or (one_allowed and value == 1.0)):
        allowed = "(0, 1]" if one_allowed else "(0, 1)"
        raise ValueError(f"{name} must lie in {allowed}, got {value!r}")
    return float(value)


def _fractions(values: NDArray[np.generic], start: int = 0) -> FloatVector:
    fractions = values.astype(np.float64, copy=False)
    # The comparisons are false for nan, which min and max propagate: two passes check everything.
    if not (fractions.min() >= 0.0 and fractions.max() <= 1.0):
        index = int(np.argmin((fractions >= 0.0) & (fractions <= 1.0)))
        raise ValueError(
            f"confidence must lie in [0, 1] (a fraction), "
            f"got {fractions[index]} at index {start + index}"
        )
    return fractions


def _truths(values: NDArray[np.generic], start: int = 0) -> BoolVector:
    if values.dtype.kind == "b":
        return values.astype(np.bool_, copy=False)
    allowed = (values == 0) | (values == 1)
    if not allowed.all():
        index = int(np.argmin(allowed))
        raise ValueError(
            f"correct must be boolean or 0 and 1, got {values[index]} at index {start + index}"
        )
    return values.astype(np.bool_)


def _vector(name: str, values: ArrayLike) -> NDArray[np.generic]:
    array = as_array(name, values)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, got 0 values")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold numbers, got dtype {array.dtype}")
    return array
