"""Who is asked: a model in transformers, or whatever else answers the same four questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.inference.forward import max_positions
from cogcalib.knowledge.detectors import Signals, read_signals
from cogcalib.knowledge.exact import Answered, answer_exactly
from cogcalib.knowledge.rotations import answer_choices
from cogcalib.knowledge.sampled import answer_by_sampling
from cogcalib.knowledge.settings import SlickSettings
from cogcalib.modeling.shots import Prompt
from cogcalib.records import Example


class Respondent(Protocol):
    """Answers the questions of a group. Where examples are taken, as many entries are given."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """What turns questions into tokens."""

    @property
    def limit(self) -> int | None:
        """Most tokens a prompt and its answer may take, None if there is no limit."""

    def answer_exactly(
        self, examples: Sequence[Example], prompts: Sequence[Prompt], settings: SlickSettings
    ) -> list[list[Answered]]:
        """As `cogcalib.knowledge.exact.answer_exactly`."""

    def answer_by_sampling(
        self, examples: Sequence[Example], prompts: Sequence[Prompt], settings: SlickSettings
    ) -> list[list[Answered]]:
        """As `cogcalib.knowledge.sampled.answer_by_sampling`."""

    def answer_choices(
        self, examples: Sequence[Example], prompts: Sequence[Prompt], settings: SlickSettings
    ) -> list[list[Answered]]:
        """As `cogcalib.knowledge.rotations.answer_choices`."""

    def read_signals(self, examples: Sequence[Example], settings: SlickSettings) -> list[Signals]:
        """As `cogcalib.knowledge.detectors.read_signals`."""


@dataclass(frozen=True)
class TransformersRespondent:
    """A model in this process.

    Attributes:
        model: A Hugging Face causal language model.
        tokenizer: Its tokenizer.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def limit(self) -> int | None:
        """The model's positions."""
        return max_positions(self.model)

    def answer_exactly(
        self, examples: Sequence[Example], prompts: Sequence[Prompt], settings: SlickSettings
    ) -> list[list[Answered]]:
        """By teacher forcing."""
        return answer_exactly(self.model, self.tokenizer, examples, prompts, settings)

    def answer_by_sampling(
        self, examples: Sequence[Example], prompts: Sequence[Prompt], settings: SlickSettings
    ) -> list[list[Answered]]:
        """By generating."""
        return answer_by_sampling(self.model, self.tokenizer, examples, prompts, settings)

    def answer_choices(
        self, examples: Sequence[Example], prompts: Sequence[Prompt], settings: SlickSettings
    ) -> list[list[Answered]]:
        """In every rotation of the options."""
        return answer_choices(self.model, self.tokenizer, examples, prompts, settings)

    def read_signals(self, examples: Sequence[Example], settings: SlickSettings) -> list[Signals]:
        """In one pass over the training format."""
        return read_signals(self.model, self.tokenizer, examples, batch_size=settings.batch_size)
