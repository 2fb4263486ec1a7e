"""The argument ``alpha``: a number, or a word for what sets it while training goes on."""

from __future__ import annotations

OWN_ALPHA = ("calibrated", "gap")
"""Words with which each example has an alpha of its own."""
WORDS = ("auto", *OWN_ALPHA)


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
            words = ", ".join(map(repr, WORDS[:-1]))
            raise ValueError(
                f"alpha must be a number, {words} or {WORDS[-1]!r}, got {alpha!r}"
            ) from None
    if alpha in OWN_ALPHA and (gate == "none" or penalty != "label_smoothing"):
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
