"""The names of the confidence definitions, the one that comes first, and of the ways to answer."""

from __future__ import annotations

MULTIPLE_CHOICE = ("vocab", "options", "surface")
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
