"""The confidence definitions: their names, which one comes first, and their temperatures."""

from __future__ import annotations

import math
from collections.abc import Mapping

MULTIPLE_CHOICE = ("vocab", "options", "surface")
"""Definitions of a multiple-choice answer, the primary one first."""

OPEN_ENDED = ("mean", "joint")
"""Definitions of an open-ended answer, the primary one first."""


def checked_temperatures(
    temperature: Mapping[str, float] | None, definitions: tuple[str, ...]
) -> dict[str, float]:
    """A temperature for every definition, 1 where `temperature` names none.

    Raises:
        ValueError: If a name is not among `definitions` or a value is not positive and finite.
    """
    given = dict(temperature or {})
    if unknown := sorted(set(given) - set(definitions)):
        raise ValueError(
            f"temperature must name definitions among {', '.join(definitions)}, got {unknown}"
        )
    for name, value in given.items():
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"temperature[{name!r}] must be positive and finite, got {value}")
    return {name: float(given.get(name, 1.0)) for name in definitions}
