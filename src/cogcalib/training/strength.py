"""``alpha="auto"``: the strength that closes the gap between confidence and accuracy."""

from __future__ import annotations

from dataclasses import dataclass

PROPORTIONAL = 2.0
INTEGRAL = 1.0
"""Gains per fraction of gap, of a penalty that takes off as much confidence as alpha says."""


@dataclass(frozen=True, slots=True)
class Strength:
    """Alpha from one step on, and what of the calibration split it was made of.

    Attributes:
        step: Optimiser step.
        confidence: Mean confidence over the calibration answers, a fraction.
        accuracy: Share of them that are right.
        alpha: Strength of the penalty.
        integral: What the law remembers, see `StrengthLaw`.
    """

    step: int
    confidence: float
    accuracy: float
    alpha: float
    integral: float


@dataclass(frozen=True, slots=True)
class StrengthLaw:
    """A proportional-integral law with anti-windup (Astrom & Hagglund 1995, chapter 3).

    With gap g_k = mean confidence - accuracy on the calibration split at reading k,

        alpha_k = clip(kp g_k + I_k, 0, largest),    I_k = I_(k-1) + ki g_k

    Confidence answers late to alpha. A sum of gaps alone overshoots, since it goes on growing while
    the answer is on its way; the proportional part acts at once and lets the sum stay small. A
    proportional part alone stops short: it needs a gap to hold any alpha. The sum stands still
    while alpha is at a limit that it would only push further into.

    Attributes:
        scale: How much alpha this penalty needs where label smoothing would need 1.
        largest: Upper limit of alpha.
    """

    scale: float = 1.0
    largest: float = float("inf")

    def next(
        self, before: Strength | None, step: int, confidence: float, accuracy: float
    ) -> Strength:
        """The strength after a reading.

        Args:
            before: The strength until now; None: none yet.
            step: Optimiser step.
            confidence: Mean confidence on the calibration split, a fraction.
            accuracy: Accuracy there, a fraction.
        """
        gap, largest = confidence - accuracy, self.largest / self.scale
        integral = 0.0 if before is None else before.integral
        grown = integral + INTEGRAL * gap
        wanted = PROPORTIONAL * gap + grown
        if (wanted > largest and gap > 0) or (wanted < 0 and gap < 0):
            grown = integral
        alpha = self.scale * min(max(PROPORTIONAL * gap + grown, 0.0), largest)
        return Strength(step, confidence, accuracy, alpha, grown)
