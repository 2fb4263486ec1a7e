"""Lengths and intervals of a training as they are given: a number of steps, or a share.

The type decides: ``1`` is a step, ``1.0`` the whole. `cogcalib.training.state.Schedule` makes
steps of both.
"""

from __future__ import annotations

from typing import Literal


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
