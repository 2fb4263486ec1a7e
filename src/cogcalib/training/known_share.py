"""The share of known examples in the first and in the last epoch with an open gate."""

from __future__ import annotations

from dataclasses import dataclass, field

FEW, MOST = 0.05, 0.95
"""Shares in the last gated epoch below and above which the gate hardly chooses any more."""


@dataclass
class KnownShare:
    """Units counted in two windows of an epoch's steps each: the first gated ones, and the last.

    Of a gated training shorter than an epoch both windows are all of it; of one of less than two
    epochs they overlap. Units of all processes count.

    Attributes:
        first: Known units and units of the first window.
        last: The same of the last window.
    """

    first: list[float] = field(default_factory=lambda: [0.0, 0.0])
    last: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def add(self, known: float, units: float, *, in_first: bool, in_last: bool) -> None:
        """Take one micro-batch with an open gate."""
        for window, counts in ((self.first, in_first), (self.last, in_last)):
            if counts:
                window[0] += known
                window[1] += units

    def as_logged(self) -> dict[str, float]:
        """``known_first_epoch`` and ``known_last_epoch``, fractions; none of an empty window."""
        windows = {"known_first_epoch": self.first, "known_last_epoch": self.last}
        return {name: known / units for name, (known, units) in windows.items() if units}

    def warning(self, gate: str) -> str:
        """What is wrong with the share in the last window, a sentence; empty if nothing is."""
        last = self.as_logged().get("known_last_epoch")
        if gate not in ("nll", "random", "inverted", "soft", "prior") or last is None:
            return ""
        if last > MOST and gate == "prior":
            return (
                f"{last:.1%} of the training examples were known when they were first met: the "
                "gate is open for nearly all of them, as gate='all' is."
            )
        if last > MOST:
            return (
                f"{last:.1%} of the training examples count as known in the last epoch: the "
                "threshold hardly separates them any more. Most likely they have been memorised, "
                "and memorised examples fall under any threshold: train for fewer epochs, or let "
                "gate='prior' label each when it is first met."
            )
        if last < FEW:
            return (
                f"{last:.1%} of the training examples count as known in the last epoch: hardly any "
                "is penalised, as in plain fine-tuning. Either the model knows little of the task, "
                "or the NLL does not separate what it knows (see separation in thresholds.json)."
            )
        return ""
