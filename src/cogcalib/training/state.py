"""The state of a training's knowledge of the model, saved with every checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogcalib.losses import AccuracyCurve, GapCurve
from cogcalib.records import Threshold, write_json
from cogcalib.training.alpha_controller import AlphaStep
from cogcalib.training.known_share import KnownShare

if TYPE_CHECKING:
    from cogcalib.training.recent_answers import Row

STATE_NAME = "cogcalib_state.json"
RATE_WINDOW = 100
"""Micro-batches over which the rate of the gate ``random`` is averaged, so that it is a rate even
with one example per batch."""


@dataclass
class KnowledgeState:
    """Thresholds in force, the style phase, and the rate of the gate.

    Attributes:
        style_end: Step at which the style phase ended; None while it lasts.
        separations: Separations measured during a style phase of length ``auto``.
        history: Every threshold that gated, oldest first.
        alpha_steps: Every alpha of the controller, oldest first; in the file ``strengths``.
        curve: By which each known example gets an alpha of its own; None: it does not, or not yet.
        recent: The training answers that its next one is made of, if it is a `GapCurve`.
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
    curve: AccuracyCurve | GapCurve | None = None
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
        if content.get("curve") is not None:
            found: dict[str, Any] = content["curve"]
            kind = GapCurve if "trained" in found else AccuracyCurve
            lists = {name: tuple(each) for name, each in found.items() if isinstance(each, list)}
            content["curve"] = kind(**{**found, **lists})
        # Older ones have none of these.
        content["recent"] = [(step, own, right) for step, own, right in content.get("recent", [])]
        content["known_share"] = KnownShare(**content.get("known_share", {}))
        return cls(**content)
