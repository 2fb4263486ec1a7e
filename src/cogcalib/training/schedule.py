"""The schedule: when the style phase ends and the threshold is estimated.

Lengths and intervals are given as a number of steps or as a share. The type decides: ``1`` is a
step, ``1.0`` the whole. `Schedule` makes steps of both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

AUTO_PATIENCE = 2
AUTO_MIN_GAIN = 0.01
AUTO_MAX_SHARE = 0.3
AUTO_MEASUREMENTS = 6
"""At least so often a style phase of length ``auto`` is measured before it has to end."""
ENOUGH_EARLY = 3
"""So many estimates of the threshold in the first gated epoch follow what is learnt."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """At which steps the style phase ends and the threshold is estimated.

    Attributes:
        style_steps: Length of the style phase; its largest length if `auto`.
        auto: Whether the style phase may end earlier, when the separation stops improving.
        every: Steps between two estimates.
        early: The same in the first epoch after the style phase, where most is learnt.
        epoch: Steps of an epoch.
    """

    style_steps: int
    auto: bool
    every: int
    early: int = 0
    epoch: int = 0

    @classmethod
    def resolve(
        cls,
        style_steps: float | str | None,
        threshold_every: float | str | None,
        max_steps: int,
        epoch_steps: int,
        *,
        often: bool = False,
    ) -> Schedule:
        """Turn shares into steps.

        Args:
            style_steps, threshold_every: As given.
            max_steps: Of the training.
            epoch_steps: Of an epoch.
            often: Whether to estimate `ENOUGH_EARLY` times in the first gated epoch at least.

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
        first = min(epoch_steps, max_steps - length)
        early = min(every, max(1, first // ENOUGH_EARLY)) if often else every
        return cls(length, auto, every, early, epoch_steps)

    def early_estimates(self, max_steps: int) -> int:
        """How often the threshold is estimated in the first epoch after the style phase."""
        return math.ceil(min(self.epoch, max_steps - self.style_steps) / (self.early or self.every))

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
            first = step - style_end < self.epoch
            return (step - style_end) % (self.early if first and self.early else self.every) == 0
        # Seldom enough for the threshold may be too seldom to see the separation settle.
        every = min(self.every, max(1, self.style_steps // AUTO_MEASUREMENTS))
        return step >= self.style_steps or (self.auto and step % every == 0)

    def style_is_over(self, step: int, separations: Sequence[float]) -> bool:
        """Whether the style phase ends before step `step`, given what `auto` has measured."""
        return step >= self.style_steps or (self.auto and _has_settled(separations))


def read_style_steps(
    value: float | str | None, gate: str, max_steps: int
) -> int | float | Literal["auto"]:
    """How long the gate stays shut: steps, a share of all steps, or ``"auto"``.

    Args:
        value: As given; from the command line a string.
        gate: With ``"none"`` any length will do.
        max_steps: Steps of the training if they are known, else at most 0.

    Raises:
        ValueError: If it is none of the three, or the gate would never open.
    """
    if value == "auto":
        return "auto"
    steps = _number("style_steps", value, "'auto'")
    if isinstance(steps, float) and steps >= 1:
        raise ValueError(
            f"style_steps as a share of all steps must be < 1, got {steps}; "
            "give a number of steps as an integer"
        )
    if gate != "none" and isinstance(steps, int) and 0 < max_steps <= steps:
        raise ValueError(
            f"style_steps must be less than the {max_steps} steps of the training "
            f"(max_steps), got {steps}: the gate would never open"
        )
    return steps


def read_threshold_every(value: float | str) -> int | float:
    """How often the threshold is estimated: every so many steps, or a share of an epoch.

    Raises:
        ValueError: If it is neither.
    """
    every = _number("threshold_every", value)
    if every == 0 or (isinstance(every, float) and every > 1):
        raise ValueError(
            "threshold_every must be an integer number of steps >= 1 or a share of an epoch "
            f"in (0, 1], got {every}"
        )
    return every


def _number(name: str, value: float | str | None, also: str = "") -> int | float:
    """A number of steps (int) or a share (float); strings come from the command line."""
    number: float | str | None = value
    if isinstance(value, str):
        for kind in (int, float):
            try:
                number = kind(value)
                break
            except ValueError:
                continue
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 1e12:
        options = f"a number of steps or a share{', or ' + also if also else ''}"
        raise ValueError(f"{name} must be {options}, got {value!r}")
    return number


def _has_settled(separations: Sequence[float]) -> bool:
    """Whether the last `AUTO_PATIENCE` values gain less than `AUTO_MIN_GAIN` on the best before."""
    earlier, recent = separations[:-AUTO_PATIENCE], separations[-AUTO_PATIENCE:]
    return bool(earlier) and max(recent) < max(earlier) + AUTO_MIN_GAIN
