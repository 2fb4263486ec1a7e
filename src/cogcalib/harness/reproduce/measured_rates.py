"""Rates of a model on the device at hand, as `reproduce --check` measured them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

from cogcalib.artifacts import read_record
from cogcalib.records import write_json

MEASURED = "measured.json"
"""Beside the run folders of a model."""
_DIVISORS = (
    "load", "step", "step_tokens", "long_step", "long_tokens", "scored", "scored_questions",
    "scored_tokens",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MeasuredRates:
    """Seconds and bytes of one model, measured on one of its tasks.

    Attributes:
        model: The weights, as the configuration names them.
        task: The task measured on, by its own name.
        device: As `cogcalib.harness.reproduce.cell.device` has it.
        dtype: Of the weights.
        adapter: Whether an adapter was trained, not every weight.
        load: Seconds to load the weights with an adapter.
        step: Seconds of one gated optimiser step, the median; calibration passes apart.
        step_tokens: Tokens of questions and answers in a step, on average, padding apart.
        long_step: Seconds of one such step over the longest rows of the training split.
        long_tokens: Tokens of it, with padding.
        scored: Seconds to score one batch.
        scored_questions: Questions in it.
        scored_tokens: Tokens of their prompts.
        saved: Bytes of what one more training leaves; of the tokenizer, where it cannot be linked.
        memory: Most bytes of the device that torch has taken for training or scoring; on a CPU the
            process.
        host: Most bytes of the host's memory that the process took.
        checkpointing: Whether activations were computed again on the way back.
    """

    model: str
    task: str
    device: str
    dtype: str
    adapter: bool
    load: float
    step: float
    step_tokens: float
    long_step: float
    long_tokens: int
    scored: float
    scored_questions: int
    scored_tokens: int
    saved: int
    memory: int
    host: int
    checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in _DIVISORS:
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}")

    @property
    def questions_per_second(self) -> float:
        """Scored."""
        return self.scored_questions / self.scored


def measured_rates(path: Path) -> MeasuredRates | None:
    """What `--check` measured of a model; None if it has not.

    Args:
        path: The folder with the model's run folders, ``runs/reproduce/MODEL``.

    Raises:
        InputError: If the file cannot be read, or holds what nothing can have been measured as.
    """
    file = path / MEASURED
    if not file.exists():
        return None
    remedy = "remove it; --check measures again"
    return read_record(file, MeasuredRates, remedy)


def keep_rates(path: Path, rates: MeasuredRates) -> Path:
    """Write what was measured where `measured_rates` finds it; returns the file."""
    write_json(path / MEASURED, asdict(rates))
    return path / MEASURED
