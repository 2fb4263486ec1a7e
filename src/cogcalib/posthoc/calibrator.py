"""The interface of post-hoc calibration: fit on the calibration split, transform, save, load."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from cogcalib.posthoc.fit_inputs import (
    Fractions,
    Labels,
    Logits,
    Truths,
    check_confidence,
    check_logits,
    check_outcomes,
)
from cogcalib.records import write_json


class Calibrator(ABC):
    """What all calibrators share. Fitted numbers are attributes that end in an underscore.

    Attributes:
        kind: Name of the calibrator in its file.
        fitted_on: What is fitted, for messages.
        parts: Name of each fitted attribute, without its underscore -> the check of its value when
            a file is read. The file holds the same names.
    """

    kind: ClassVar[str]
    fitted_on: ClassVar[str]
    parts: ClassVar[Mapping[str, Callable[[object], Any]]]

    def fitted(self) -> dict[str, Any]:
        """What was fitted, by its names in a file, as JSON has it; RuntimeError if unfitted."""
        self._check_fitted()
        values = {name: getattr(self, f"{name}_") for name in self.parts}
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}

    @classmethod
    def from_fitted(cls, values: Mapping[str, Any]) -> Self:
        """The calibrator that has these values of `fitted`.

        Raises:
            ValueError: If they cannot have been fitted.
        """
        made = cls()
        for name, check in cls.parts.items():
            try:
                setattr(made, f"{name}_", check(values.get(name)))
            except ValueError as error:
                raise ValueError(f"{name} {error}") from error
        if problem := made._problem():
            raise ValueError(problem)
        return made

    def save(self, path: Path | str) -> Path:
        """Write what was fitted as JSON, atomically; raises RuntimeError if unfitted."""
        return write_json(path, {"kind": self.kind, **self.fitted()})

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read back what `save` wrote.

        Raises:
            ValueError: If the file is no JSON, holds another kind of calibrator, or values that
                cannot have been fitted.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: no valid JSON: {error}") from error
        found = content.get("kind") if isinstance(content, dict) else None
        if found != cls.kind:
            raise ValueError(f"{path}: kind must be {cls.kind!r}, got {found!r}")
        try:
            return cls.from_fitted(content)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def _problem(self) -> str:
        """Why the parts that were read cannot belong together; empty if they can."""
        return ""

    def _check_split(self, split: str) -> None:
        if split != "calibration":
            raise ValueError(
                f"split must be 'calibration': {self.fitted_on} is never tuned on {split!r}"
            )

    def _check_fitted(self) -> None:
        if not all(hasattr(self, f"{name}_") for name in self.parts):
            raise RuntimeError(f"{type(self).__name__} is not fitted: call fit or load first")


class LogitCalibrator(Calibrator):
    """A calibrator of the options' logits, fitted by the NLL of the correct option."""

    def fit(self, logits: ArrayLike, labels: ArrayLike, *, split: str = "calibration") -> Self:
        """Fit to the calibration split.

        Args:
            logits: Logits or log-probabilities, [n, K]; -inf marks an option a row does not have.
            labels: Index of the correct option of each row, int, [n].
            split: The split the rows come from. Only ``"calibration"`` is allowed: numbers tuned on
                the split they are judged on prove nothing.

        Returns:
            This object.

        Raises:
            ValueError: If `split` is another, shapes do not match, logits are nan or +inf, a label
                is not an index of its row's options, or the label's logit is -inf.
        """
        self._check_split(split)
        self._fit(*check_logits(logits, labels))
        return self

    @abstractmethod
    def _fit(self, logits: Logits, labels: Labels) -> None: ...

    @abstractmethod
    def transform(self, logits: ArrayLike) -> Logits:
        """Calibrated logits; probabilities are their softmax."""


class ConfidenceCalibrator(Calibrator):
    """A map from the confidence of an answer to the chance that it is correct.

    It changes confidences only: answers and accuracy stay.
    """

    def fit(self, confidence: ArrayLike, correct: ArrayLike, *, split: str = "calibration") -> Self:
        """Fit to the calibration split.

        Args:
            confidence: Confidence of each answer, fractions [n].
            correct: Whether it was correct, [n].
            split: The split the rows come from; only ``"calibration"`` is allowed.

        Returns:
            This object.

        Raises:
            ValueError: If `split` is another, shapes do not match, or values are out of range.
        """
        self._check_split(split)
        self._fit(*check_outcomes(confidence, correct))
        return self

    def transform(self, confidence: ArrayLike) -> Fractions:
        """Calibrated confidences, float64, same shape.

        Raises:
            RuntimeError: If nothing was fitted or loaded yet.
            ValueError: If confidences are no fractions.
        """
        self._check_fitted()
        return self._map(check_confidence(confidence))

    @abstractmethod
    def _fit(self, confidence: Fractions, correct: Truths) -> None: ...

    @abstractmethod
    def _map(self, confidence: Fractions) -> Fractions: ...


def number(value: object) -> float:
    """A finite number out of a calibrator's file; raises ValueError if it is anything else."""
    if not _is_number(value):
        raise ValueError(f"must be a finite number, got {value!r}")
    return float(value)  # type: ignore[arg-type]


def numbers(value: object) -> Fractions:
    """Finite numbers, float64 [n], n at least 1; raises ValueError if it is anything else."""
    if not isinstance(value, list) or not value or not all(map(_is_number, value)):
        raise ValueError(f"must be a list of finite numbers, got {value!r}")
    return np.array(value, dtype=np.float64)


def flag(value: object) -> bool:
    """A truth value; raises ValueError if it is anything else."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, got {value!r}")
    return value


def _is_number(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and bool(abs(value) < np.inf)
    )
