"""The state of a training's knowledge of the model, saved with every checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogcalib.losses import GapCurve
from cogcalib.losses.gates import CHOOSING, FEW_REASONS, never_chose
from cogcalib.records import Threshold, write_json
from cogcalib.training.alpha_controller import AlphaStep

if TYPE_CHECKING:
    from cogcalib.training.recent_answers import Row

STATE_NAME = "cogcalib_state.json"
RATE_WINDOW = 100
"""Micro-batches over which the rate of the gate ``random`` is averaged, so that it is a rate even
with one example per batch."""

FEW, MOST = 0.05, 0.95
"""Shares in the last gated epoch below and above which the gate hardly chooses any more."""


@dataclass
class KnownShare:
    """Units counted in the gated training: in its first epoch's steps, its last, and all of them.

    Of a gated training shorter than an epoch both windows are all of it; of one of less than two
    epochs they overlap. Units of all processes count.

    Attributes:
        first: Known units and units of the first window.
        last: The same of the last window.
        seen: The same of the whole gated training.
        weight: Sum of the weights of the penalty in all of it, alpha included.
    """

    first: list[float] = field(default_factory=lambda: [0.0, 0.0])
    last: list[float] = field(default_factory=lambda: [0.0, 0.0])
    seen: list[float] = field(default_factory=lambda: [0.0, 0.0])
    weight: float = 0.0

    def add(
        self, known: float, units: float, weight: float = 0.0, *, in_first: bool, in_last: bool
    ) -> None:
        """Take one micro-batch with an open gate."""
        self.weight += weight
        for window, counts in ((self.first, in_first), (self.last, in_last), (self.seen, True)):
            if counts:
                window[0] += known
                window[1] += units

    def as_logged(self) -> dict[str, float]:
        """``known_first_epoch`` and ``known_last_epoch``, fractions; none of an empty window."""
        windows = {"known_first_epoch": self.first, "known_last_epoch": self.last}
        return {name: known / units for name, (known, units) in windows.items() if units}

    def warning(self, gate: str) -> str:
        """What is wrong with the shares, one message: of the whole training, or of its end.

        Empty if nothing is.
        """
        if said := never_chose(gate, *self.seen):
            return said
        return self._warning_of_the_end(gate) if gate in CHOOSING else ""

    def _warning_of_the_end(self, gate: str) -> str:
        last = self.as_logged().get("known_last_epoch")
        if last is None or FEW <= last <= MOST:
            return ""
        if last < FEW:
            return (
                f"{last:.1%} of the training examples count as known in the last epoch: hardly any "
                f"is penalised, as in plain fine-tuning. {FEW_REASONS}"
            )
        if gate == "prior":
            return (
                f"{last:.1%} of the training examples were known when they were first met: the "
                "gate is open for nearly all of them, as gate='all' is."
            )
        return (
            f"{last:.1%} of the training examples count as known in the last epoch: the "
            "threshold hardly separates them any more. Most likely they have been memorised, "
            "and memorised examples fall under any threshold: train for fewer epochs."
        )


@dataclass
class KnowledgeState:
    """Thresholds in force, the style phase, and the rate of the gate.

    Attributes:
        style_end: Step at which the style phase ended; None while it lasts.
        separations: Separations measured during a style phase of length ``auto``.
        history: Every threshold that gated, oldest first.
        alpha_steps: Every alpha of the controller, oldest first; in the file ``strengths``.
        curve: By which each known example gets an alpha of its own; None: it does not, or not yet.
        recent: The training answers that its next one is made of.
        prior: Labels of the gate ``prior``, a letter for each example, see `PriorLabels`.
        known_share: Share of known examples in the first and the last epoch.
        opened: Sum of the gate's weights since the last calibration pass.
        rate: Running mean of the share of examples the ``nll`` gate calls known.
        rate_count: Micro-batches `rate` has seen, at most `RATE_WINDOW`.
        method: What was trained: the run's identity and length, see `run_identity`.
    """

    style_end: int | None = None
    separations: list[float] = field(default_factory=list)
    history: list[Threshold] = field(default_factory=list)
    alpha_steps: list[AlphaStep] = field(default_factory=list)
    curve: GapCurve | None = None
    recent: list[Row] = field(default_factory=list)
    prior: str = ""
    known_share: KnownShare = field(default_factory=KnownShare)
    opened: float = 0.0
    rate: float = 0.0
    rate_count: int = 0
    method: dict[str, Any] = field(default_factory=dict)

    @property
    def threshold(self) -> Threshold | None:
        """The threshold in force, or None before the first."""
        return self.history[-1] if self.history else None

    def update_rate(self, share: float) -> None:
        """Take one micro-batch's share into the running mean."""
        self.rate_count = min(self.rate_count + 1, RATE_WINDOW)
        self.rate += (share - self.rate) / self.rate_count

    def save(self, directory: Path | str) -> Path:
        """Write the state into a checkpoint, atomically."""
        content = asdict(self)
        content["strengths"] = content.pop("alpha_steps")
        return write_json(Path(directory) / STATE_NAME, content)

    @classmethod
    def load(cls, directory: Path | str) -> KnowledgeState:
        """Read the state of a checkpoint.

        Raises:
            ValueError: If the checkpoint holds none.
        """
        path = Path(directory) / STATE_NAME
        if not path.is_file():
            raise ValueError(
                f"{directory} is no checkpoint of a CogCalibTrainer: {path} is missing"
            )
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content["history"] = [Threshold(**threshold) for threshold in content["history"]]
        content["alpha_steps"] = [AlphaStep(**step) for step in content.pop("strengths")]
        content["curve"] = _gap_curve(content.get("curve"))
        # Older ones have none of these.
        content["recent"] = [(step, own, right) for step, own, right in content.get("recent", [])]
        content["known_share"] = KnownShare(**content.get("known_share", {}))
        return cls(**content)


def _gap_curve(saved: dict[str, Any] | None) -> GapCurve | None:
    # An older checkpoint may hold that of a schedule which is gone: it is read, so that the check
    # of what it was trained with can say so.
    if saved is None or "trained" not in saved:
        return None
    lists = {name: tuple(each) for name, each in saved.items() if isinstance(each, list)}
    return GapCurve(**{**saved, **lists})
