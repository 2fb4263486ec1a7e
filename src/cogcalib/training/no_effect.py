"""The warning at the end where an alpha that is found in training took nothing off."""

from __future__ import annotations

from cogcalib.losses.gates import CHOOSING
from cogcalib.training.alpha_controller import WORDS
from cogcalib.training.state import KnowledgeState

NOTHING = 0.001
"""Mean alpha over the gated training, closed gates as 0, below which nothing was penalised."""


def warning_of_no_effect(
    knowledge: KnowledgeState, gate: str, alpha: float | str | None, held_out: int
) -> str:
    """What is wrong with the weight of the penalty in all of the gated training, one message.

    Args:
        knowledge: Of the training, at its end.
        gate: Of the training.
        alpha: As given: a number is the user's own, and nothing is said of it.
        held_out: Units of the calibration split.

    Returns:
        Empty if nothing is wrong, or no threshold was in force.
    """
    share = knowledge.known_share
    known, units = share.seen
    if alpha not in WORDS or not units or not share.weight / units < NOTHING:  # as nan is not
        return ""
    opened = (
        f"{known / units:.1%} of the training examples counted as known"
        if gate in CHOOSING
        else f"gate={gate!r} was open"
    )
    return (
        f"alpha={alpha!r} gave the penalty a mean weight of {share.weight / units:.2g} in the "
        f"gated training, although {opened}: this was plain fine-tuning. "
        f"{_reason(knowledge, alpha, held_out)}"
    )


def _reason(knowledge: KnowledgeState, alpha: float | str | None, held_out: int) -> str:
    if alpha != "gap":
        return (
            "On the calibration split confidence was no higher than accuracy, so that there was "
            "nothing to take off."
        )
    if _waits(knowledge):
        from cogcalib.training.gap_schedule import FEWEST

        return (
            f"It begins with the first threshold after {min(FEWEST, held_out)} answers seen in "
            "training, and none came so late: train for longer, or set threshold_every to fewer "
            "steps."
        )
    return (
        "Training examples were answered correctly no more often than calibration examples of the "
        "same confidence, so that there was nothing to take off."
    )


def _waits(knowledge: KnowledgeState) -> bool:
    """Whether the curve in force is still the one that smooths nothing; later ones have places."""
    curve = knowledge.curve
    return curve is None or len(curve.nll) == 1
