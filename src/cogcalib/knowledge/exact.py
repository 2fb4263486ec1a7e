"""How likely a sampled answer is right, and whether the greedy one is: exactly, without sampling.

Where the accepted answers are fixed strings, the probability that a sampled answer is one of them
is a product of conditionals that one teacher-forced pass reads off,

    P(right) = sum_a [ prod_t q(a_t | x, a_<t) ] * sum_{e in E} q(e | x, a)

over the distinct token sequences a of the answer and its aliases, with q the tempered and truncated
distribution (`cogcalib.inference.truncation`) and E the tokens that end an answer. A sequence that
begins another one is not counted twice: one of them ends where the other goes on.

Counted are answers spelt just like that. That the model spells "Paris" with other tokens, or says
"paris" or "the Paris", is left out; docs/probe.md has how much that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.inference.batching import by_length
from cogcalib.inference.forward import Reader, inference, max_positions, padding_id
from cogcalib.inference.truncation import log_probabilities
from cogcalib.knowledge.candidates import (
    Asked,
    Tokens,
    answer_ends,
    ask,
    ask_behind,
    check_lengths,
    generation_ends,
)
from cogcalib.knowledge.settings import PAPER, SlickSettings
from cogcalib.modeling.shots import Prompt
from cogcalib.records import Example
from cogcalib.scoring import ScoreSettings


@dataclass(frozen=True, slots=True)
class Answered:
    """How one question is answered behind one prompt.

    Attributes:
        greedy: Whether the greedy answer is right.
        sampled: Probability (exact) or share (sampled) of right answers, a fraction.
        strict: Sampled mode: the share spelt just as an accepted answer. Exact mode: `sampled`.
    """

    greedy: bool
    sampled: float
    strict: float


def answer_exactly(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    prompts: Sequence[Prompt],
    settings: SlickSettings = PAPER,
) -> list[list[Answered]]:
    """Judge every open-ended question behind every prompt, in one teacher-forced pass each.

    Args:
        model: A Hugging Face causal language model.
        tokenizer: Its tokenizer.
        examples: Open-ended questions of one group.
        prompts: The group's prompts; the keys and values of each are computed once for all
            questions.
        settings: Temperature, top-k, batches.

    Returns:
        For each example, in the order given, one entry a prompt.

    Raises:
        ValueError: If an example is multiple choice, has no answer tokens, or is longer than the
            model has positions.
    """
    ends = answer_ends(examples, tokenizer, generation_ends(model.generation_config))
    asked = ask(examples, tokenizer, ends)
    judge = _Judge(model, padding_id(tokenizer), ends, settings)
    with inference(model):
        return ask_behind(
            prompts, asked, tokenizer, settings, lambda chosen, shown, _: judge(chosen, shown)
        )


class _Judge:
    """Reads questions behind one prompt."""

    def __init__(
        self, model: PreTrainedModel, pad_id: int, ends: Sequence[int], settings: SlickSettings
    ) -> None:
        self.model, self.pad_id, self.settings = model, pad_id, settings
        self.ends = torch.tensor(ends, device=model.device)
        self.limit = max_positions(model)

    def __call__(self, asked: Sequence[Asked], prompts: Sequence[Tokens]) -> list[Answered]:
        check_lengths(asked, prompts, self.settings, self.limit)
        answers = [answer for each in asked for answer in each.answers]
        sequences = [
            [*prompt, *answer]
            for each, prompt in zip(asked, prompts, strict=True)
            for answer in each.answers
        ]
        # After the prompt, after each answer token: the last of these positions is to end it.
        kept = [len(answer) + 1 for answer in answers]
        reader = Reader(self.model, sequences, kept, self.pad_id)

        def work(batch: list[int]) -> list[tuple[bool, float]]:
            return self._read(reader.logits(batch), [answers[index] for index in batch])

        batches = ScoreSettings(batch_size=self.settings.batch_size)
        found = iter(by_length(reader.lengths, work, batches, self.model.device, counted=False))
        rows = []
        for each in asked:
            right, probabilities = zip(*(next(found) for _ in each.answers), strict=True)
            p = min(1.0, sum(probabilities))
            rows.append(Answered(any(right), p, p))
        return rows

    def _read(self, logits: Tensor, answers: Sequence[tuple[int, ...]]) -> list[tuple[bool, float]]:
        """For each answer: whether greedy decoding gives it, and its probability."""
        lengths = [len(answer) + 1 for answer in answers]
        last = torch.tensor(lengths, device=logits.device).cumsum(0) - 1
        # One matrix of wanted tokens: the answer's own in the first column, the ends after it.
        wanted = self.ends.repeat(len(logits), 1)
        own = [token for answer in answers for token in (*answer, answer[-1])]
        tokens = torch.cat([torch.tensor(own, device=logits.device)[:, None], wanted], dim=1)
        log_q = log_probabilities(logits, tokens, self.settings.temperature, self.settings.top_k)
        steps = log_q[:, 0].double()
        steps[last] = log_q[last, 1:].double().logsumexp(-1)
        best = logits.argmax(-1)
        greedy = best == tokens[:, 0]
        greedy[last] = torch.isin(best[last], self.ends)
        return [
            (bool(right.all()), steps_of.sum().exp().item())
            for right, steps_of in zip(greedy.split(lengths), steps.split(lengths), strict=True)
        ]
