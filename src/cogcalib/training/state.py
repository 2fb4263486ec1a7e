"""What a run has learnt about the model's knowledge so far, saved with every checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cogcalib.records import Threshold, write_json
from cogcalib.training.alpha_controller import Strength
from cogcalib.training.curve import AccuracyCurve

STATE_NAME = "cogcalib_state.json"
RATE_WINDOW = 100
"""Micro-batches over which the rate of the gate ``random`` is averaged, so that it is a rate even
with one example per batch."""

AUTO_PATIENCE = 2
AUTO_MIN_GAIN = 0.01
AUTO_MAX_SHARE = 0.3
AUTO_MEASUREMENTS = 6
"""At least so often a style phase of length ``auto`` is measured before it has to end."""


@dataclass
class KnowledgeState:
    """Thresholds in force, the style phase, and the rate of the gate.

    Attributes:
        style_end: Step at which the style phase ended; None while it lasts.
        separations: Separations measured during a style phase of length ``auto``.
        history: Every threshold that gated, oldest first.
        strengths: Every alpha that tuned itself, oldest first.
        curve: By which each known example gets its own strength; None: it does not, or not yet.
        opened: Sum of the gate's weights since the last reading of the calibration split.
        rate: Running mean of the share of examples the ``nll`` gate calls known.
        rate_count: Micro-batches `rate` has seen, at most `RATE_WINDOW`.
        method: The arguments that say what was trained, by name.
    """

    style_end: int | None = None
    separations: list[float] = field(default_factory=list)
    history: list[Threshold] = field(default_factory=list)
    strengths: list[Strength] = field(default_factory=list)
    curve: AccuracyCurve | None = None
    opened: float = 0.0
    rate: float = 0.0
    rate_count: int = 0
    method: dict[str, float | str] = field(default_factory=dict)

    @property
    def threshold(self) -> Threshold | None:
        """The threshold in force, or None before the first."""
        return self.history[-1] if self.history else None

    def update_rate(self, share: float) -> None:
        """Take one micro-batch's share into the running mean."""
        self.rate_count = min(self.rate_count + 1, RATE_WINDOW)
        self.rate += (share - self.rate) / self.rate_count

    def save(self, directory: Path | str) -> Path:
        """Write the state into a checkpoint, atomically."""
        return write_json(Path(directory) / STATE_NAME, asdict(self))

    @classmethod
    def load(cls, directory: Path | str) -> KnowledgeState:
        """Read the state of a checkpoint.

        Raises:
            ValueError: If the checkpoint holds none.
        """
        path = Path(directory) / STATE_NAME
        if not path.is_file():
            raise ValueError(
                f"{directory} is no checkpoint of a CogCalibTrainer: {path} is missing"
            )
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content["history"] = [Threshold(**threshold) for threshold in content["history"]]
        content["strengths"] = [Strength(**strength) for strength in content["strengths"]]
        if content.get("curve") is not None:
            content["curve"] = AccuracyCurve(**{k: tuple(v) for k, v in content["curve"].items()})
        return cls(**content)


@dataclass(frozen=True, slots=True)
class Schedule:
    """At which steps the style phase ends and the threshold is estimated.

    Attributes:
        style_steps: Length of the style phase; its largest length if `auto`.
        auto: Whether the style phase may end earlier, when the separation stops improving.
        every: Steps between two estimates.
    """

    style_steps: int
    auto: bool
    every: int

    @classmethod
    def resolve(
        cls,
        style_steps: float | str | None,
        threshold_every: float | str | None,
        max_steps: int,
        epoch_steps: int,
    ) -> Schedule:
        """Turn shares into steps.

        Raises:
            ValueError: If the style phase would last as long as the training.
        """
        every = threshold_every
        if isinstance(every, float):
            every = max(1, round(every * epoch_steps))
        auto = style_steps == "auto"
        length = AUTO_MAX_SHARE if auto else style_steps
        if isinstance(length, float):
            length = min(round(length * max_steps), max_steps - 1)
        if not isinstance(length, int) or not isinstance(every, int):
            raise TypeError(f"unresolved style_steps={style_steps!r}, every={threshold_every!r}")
        if length >= max_steps:
            raise ValueError(
                f"style_steps must be less than the {max_steps} steps of the training, got "
                f"{length}: the gate would never open"
            )
        return cls(length, auto, every)

    @staticmethod
    def default_share(n_train: int, n_calibration: int) -> float:
        """Share of an epoch between two estimates that cost about 2 % of the training, if possible.

        An example to measure takes a forward pass, one to train on about three times that. Once an
        epoch is the least that follows what is learnt: small data sets pay more than 2 %.
        """
        return min(1.0, max(0.25, n_calibration / (3 * 0.02 * n_train)))

    def is_due(self, step: int, style_end: int | None) -> bool:
        """Whether a threshold is to be estimated before step `step`."""
        if style_end is not None:
            return (step - style_end) % self.every == 0
        # Seldom enough for the threshold may be too seldom to see the separation settle.
        every = min(self.every, max(1, self.style_steps // AUTO_MEASUREMENTS))
        return step >= self.style_steps or (self.auto and step % every == 0)

    def style_is_over(self, step: int, separations: Sequence[float]) -> bool:
        """Whether the style phase ends before step `step`, given what `auto` has measured."""
        return step >= self.style_steps or (self.auto and _has_settled(separations))


def _has_settled(separations: Sequence[float]) -> bool:
    """Whether the last `AUTO_PATIENCE` values gain less than `AUTO_MIN_GAIN` on the best before."""
    earlier, recent = separations[:-AUTO_PATIENCE], separations[-AUTO_PATIENCE:]
    return bool(earlier) and max(recent) < max(earlier) + AUTO_MIN_GAIN
