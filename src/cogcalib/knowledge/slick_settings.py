"""The settings of SliCK, for exact and sampled mode, and their defaults."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from cogcalib.inference.backend import Sampling

EXACT, SAMPLED = MODES = ("exact", "sampled")


@dataclass(frozen=True, kw_only=True, slots=True)
class SlickSettings:
    """The paper's values by default. Batches apart, every field changes results.

    Attributes:
        mode: ``exact``, by teacher forcing, or ``sampled``, by generating answers.
        temperature: Of the sampled answers.
        top_k: Most probable tokens to sample from at each step; 0 samples from all.
        samples: Answers under each prompt: drawn in sampled mode, only supposed in exact mode,
            for the category.
        max_new_tokens: Longest answer generated, its end token included.
        seed: Of the sampled answers.
        batch_size: Most sequences in one forward pass (sampled: questions) of a model at hand; None
            lets a budget of tokens decide. A backend that is given has its own.
        progress: Called after each piece of work with the number of question-prompt pairs done.

    Raises:
        ValueError: If a number is out of range or the mode unknown.
    """

    mode: str = EXACT
    temperature: float = 0.5
    top_k: int = 40
    samples: int = 16
    max_new_tokens: int = 32
    seed: int = 0
    batch_size: int | None = None
    progress: Callable[[int], None] | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ValueError(f"temperature must be positive and finite, got {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be at least 0 (0 takes all tokens), got {self.top_k}")
        for name in ("samples", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")

    @property
    def sampling(self) -> Sampling:
        """The distribution that answers are sampled from."""
        return Sampling(self.temperature, self.top_k, self.samples, self.max_new_tokens)


PAPER = SlickSettings()
"""The setting of Gekhman et al. 2024, by teacher forcing."""
