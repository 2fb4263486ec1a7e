"""The argument ``alpha``, and the controller of ``"auto"``: it closes the gap of confidence."""

from __future__ import annotations

from dataclasses import dataclass

WORDS = ("auto", "gap")
"""Words in place of a number. With `gap` each example has an alpha of its own."""
PROPORTIONAL = 1.0
INTEGRAL = 0.5
"""Gains per fraction of gap, of a penalty that takes off as much confidence as alpha says."""
FOLLOWED = 0.5
"""Share of the way to the wanted alpha that is gone at a calibration pass."""


def read_alpha(alpha: float | str | None, penalty: str, gate: str) -> float | str | None:
    """Alpha as given; a command line's number comes as a string.

    Args:
        alpha: A number, one of `WORDS`, or None for the default.
        penalty: Of the training.
        gate: Of the training.

    Raises:
        ValueError: If it is something else, or a word means nothing with this penalty and gate.
    """
    if isinstance(alpha, str) and alpha not in WORDS:
        try:
            return float(alpha)
        except ValueError:
            from cogcalib.suggest import did_you_mean

            raise ValueError(
                f"alpha must be a number, {' or '.join(map(repr, WORDS))}, got {alpha!r}"
                f"{did_you_mean(alpha, WORDS)}"
            ) from None
    if alpha == "gap" and (gate == "none" or penalty != "label_smoothing"):
        raise ValueError(
            f"alpha={alpha!r} needs penalty='label_smoothing' and a gate that opens, got "
            f"penalty={penalty!r}, gate={gate!r}"
        )
    if alpha == "auto" and (gate == "none" or penalty == "focal"):
        raise ValueError(
            f"alpha='auto' has nothing to tune with penalty={penalty!r}, "
            f"gate={gate!r}: it needs another penalty than 'focal', and a gate that opens"
        )
    return alpha


@dataclass(frozen=True, slots=True)
class AlphaStep:
    """Alpha from one step on, and what of the calibration split it was made of.

    Attributes:
        step: Optimiser step.
        confidence: Mean confidence over the calibration answers, a fraction.
        accuracy: Share of them that are correct.
        alpha: Weight of the penalty.
        integral: What the controller remembers, see `AlphaController`.
    """

    step: int
    confidence: float
    accuracy: float
    alpha: float
    integral: float


@dataclass(frozen=True, slots=True)
class AlphaController:
    """A proportional-integral controller with anti-windup and a lag.

    With gap g_k = mean confidence - accuracy on the calibration split at pass k,

        wanted_k = clip(kp g_k + I_k, 0, largest),    I_k = I_(k-1) + ki g_k
        alpha_k  = alpha_(k-1) + (wanted_k - alpha_(k-1)) / 2

    (Astrom & Hagglund 1995, chapter 3). Confidence answers to alpha late where passes are frequent,
    at once where they are seldom. A sum of gaps alone overshoots in the first case, a large
    proportional part swings from pass to pass in the second, and alone stops short in both: it
    needs a gap to hold any alpha. The lag makes the two cases alike. The gains are those with the
    smallest worst overshoot and remaining gap over models whose confidence goes a tenth to the
    whole of its way at a pass, 0.6 to 1.4 times as far as alpha says. The sum stands still while
    alpha is at a limit that it would only push further into, and while the gate let nothing
    through: then alpha had no say in the gap.

    Both alpha and the sum begin at `start`, as if it had closed a gap already: with few passes
    there is no time to come from nothing.

    Attributes:
        scale: How much alpha this penalty needs where label smoothing would need 1.
        largest: Upper limit of alpha.
        start: Alpha before the first pass.
    """

    scale: float = 1.0
    largest: float = 1.0
    start: float = 0.0

    def next(
        self,
        before: AlphaStep | None,
        step: int,
        confidence: float,
        accuracy: float,
        *,
        acted: bool = True,
    ) -> AlphaStep:
        """Alpha after a calibration pass.

        Args:
            before: Alpha until now; None: none yet.
            step: Optimiser step.
            confidence: Mean confidence on the calibration split, a fraction.
            accuracy: Accuracy there, a fraction.
            acted: Whether the gate has been open for anything since the pass before.
        """
        gap, largest = confidence - accuracy, self.largest / self.scale
        integral, alpha = self.start / self.scale, self.start
        if before is not None:
            integral, alpha = before.integral, before.alpha
        grown = integral + INTEGRAL * gap
        wanted = PROPORTIONAL * gap + grown
        outward = (wanted > largest and gap > 0) or (wanted < 0 and gap < 0)
        if outward or not acted:
            grown = integral
        wanted = self.scale * min(max(PROPORTIONAL * gap + grown, 0.0), largest)
        alpha += FOLLOWED * (wanted - alpha)
        return AlphaStep(step, confidence, accuracy, alpha, grown)
