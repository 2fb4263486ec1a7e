"""The names of the confidence definitions, the one that comes first, and of the ways to answer."""

from __future__ import annotations

from collections.abc import Iterable

MULTIPLE_CHOICE = ("options", "vocab", "surface")
"""Definitions of a multiple-choice answer, the primary one first."""

OPEN_ENDED = ("mean", "joint")
"""Definitions of an open-ended answer, the primary one first."""

LIKELIHOOD = "nll"
"""Whose temperature, of open-ended answers, is of no definition but of `Prediction.nll`."""

LETTER = "letter"
LABEL = "label"
TEXT = "text"
ANSWERS = (LETTER, LABEL, TEXT)
"""What a multiple-choice question is answered with, the default first."""


def ranked(names: Iterable[str]) -> list[str]:
    """Definitions in the order in which they are shown, the primary one first.

    Definitions from elsewhere come last, by name.
    """
    given = set(names)
    known = [name for name in (*MULTIPLE_CHOICE, *OPEN_ENDED) if name in given]
    return known + sorted(given.difference(known))


CONFIDENCE_MAPS = ("platt", "isotonic")
"""Methods that map the confidence of the answer given, one definition at a time."""
