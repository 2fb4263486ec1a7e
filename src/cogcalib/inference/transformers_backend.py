"""A model of transformers in this process: the backend that shows whole logits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.inference.backend import (
    AnswerOdds,
    FirstToken,
    Generation,
    Progress,
    Sampling,
    Tokens,
    TokenScores,
)
from cogcalib.inference.batching import by_length
from cogcalib.inference.generation import Sampler, answer_length, decode_greedily
from cogcalib.inference.logits import (
    LogitReader,
    inference,
    max_positions,
    pad_left,
    padding_id,
    read_first_tokens,
)
from cogcalib.inference.prefix import compute_prefix, shared_length
from cogcalib.inference.truncation import log_probabilities
from cogcalib.modeling.model_spec import generation_ends

T = TypeVar("T")


class TransformersBackend:
    """Answers as `cogcalib.inference.backend.Backend` and `WholeLogits` say.

    The model is asked in evaluation mode, without gradients, and left as it was. Under ``accelerate
    launch`` the processes share the work of each call and all get all results.

    Args:
        model: A Hugging Face causal language model, with or without an adapter.
        tokenizer: Its tokenizer.
        batch_size: Most sequences in one forward pass; None lets a budget of tokens decide.
        share_prefix: Compute the tokens with which all sequences begin once, where that saves time.
    """

    name = "a model in transformers"

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_size: int | None = None,
        share_prefix: bool = True,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.batch_size, self.share_prefix = batch_size, share_prefix
        self._pad_id = padding_id(tokenizer)

    @property
    def positions(self) -> int | None:
        """The positions the model was built for."""
        return max_positions(self.model)

    @property
    def ends(self) -> tuple[int, ...]:
        """As the model's generation config has them."""
        return generation_ends(self.model.generation_config)

    def read_logits(
        self,
        sequences: Sequence[Tokens],
        kept: Sequence[int],
        work: Callable[[list[int], Tensor], Sequence[T]],
        *,
        progress: Progress | None = None,
    ) -> list[T]:
        """As `WholeLogits.read_logits`."""
        with inference(self.model):
            reader = LogitReader(self.model, sequences, kept, self._pad_id, share=self.share_prefix)
            return self._by_length(
                reader.lengths, lambda batch: work(batch, reader.logits(batch)), progress
            )

    def first_tokens(
        self,
        prompts: Sequence[Tokens],
        wanted: Sequence[Sequence[int]],
        others: Sequence[Sequence[int]] | None = None,
        *,
        progress: Progress | None = None,
    ) -> list[FirstToken]:
        """As `Backend.first_tokens`; the scores are logits, and none is missing."""
        if others is not None:
            wanted = [[*needed, *more] for needed, more in zip(wanted, others, strict=True)]

        def work(batch: list[int], logits: Tensor) -> list[FirstToken]:
            return read_first_tokens(logits, [wanted[index] for index in batch])

        return self.read_logits(prompts, [1] * len(prompts), work, progress=progress)

    def log_probabilities(
        self,
        prompts: Sequence[Tokens],
        answers: Sequence[Sequence[int]],
        *,
        temperature: float = 1.0,
        progress: Progress | None = None,
    ) -> list[Tensor]:
        """As `Backend.log_probabilities`, at any temperature."""

        def work(batch: list[int], logits: Tensor) -> Sequence[Tensor]:
            tokens = _tokens(batch, answers, logits)
            scaled = logits if temperature == 1 else logits / temperature
            nll = torch.nn.functional.cross_entropy(scaled, tokens, reduction="none")
            return (-nll).cpu().split([len(answers[index]) for index in batch])

        return self._teacher_forced(prompts, answers, work, progress)

    def token_scores(
        self,
        prompts: Sequence[Tokens],
        answers: Sequence[Sequence[int]],
        *,
        progress: Progress | None = None,
    ) -> list[TokenScores]:
        """As `Backend.token_scores`, entropy included."""

        def work(batch: list[int], logits: Tensor) -> list[TokenScores]:
            tokens = _tokens(batch, answers, logits)[:, None]
            log_p = logits.log_softmax(-1)
            columns = (
                log_p.gather(1, tokens).squeeze(1),
                log_p.scatter(1, tokens, -torch.inf).amax(-1),
                logits.argmax(-1) == tokens.squeeze(1),
                torch.special.entr(log_p.exp()).sum(-1),
            )
            lengths = [len(answers[index]) for index in batch]
            parts = (column.cpu().split(lengths) for column in columns)
            return [TokenScores(*row) for row in zip(*parts, strict=True)]

        return self._teacher_forced(prompts, answers, work, progress)

    def generate(
        self,
        prompts: Sequence[Tokens],
        ends: Collection[int],
        most: int,
        *,
        temperature: float = 1.0,
        progress: Progress | None = None,
    ) -> list[Generation]:
        """As `Backend.generate`, at any temperature.

        Raises:
            ValueError: If the model has no key-value cache.
        """
        device = self.model.device

        def work(batch: list[int]) -> list[Generation]:
            ids, mask = pad_left([prompts[index] for index in batch], self._pad_id, device)
            found = decode_greedily(
                self.model, ids, mask, ends=ends, most=most, temperature=temperature
            )
            rows = []
            for tokens, logprobs in zip(*(each.tolist() for each in found), strict=True):
                length = answer_length(tokens, ends)
                rows.append(Generation(tokens[:length], logprobs[:length]))
            return rows

        with inference(self.model):
            return self._by_length([len(row) + most for row in prompts], work, progress)

    @staticmethod
    def check_answers(sampling: Sampling) -> None:
        """Nothing is refused: the whole vocabulary is there."""

    def answer_odds(
        self,
        prompts: Sequence[Tokens],
        answers: Sequence[Sequence[int]],
        ends: Sequence[int],
        sampling: Sampling,
    ) -> list[AnswerOdds]:
        """As `Backend.answer_odds`, in one teacher-forced pass an answer."""
        last = torch.tensor(ends, device=self.model.device)

        def work(batch: list[int], logits: Tensor) -> list[AnswerOdds]:
            return _odds(logits, [answers[index] for index in batch], last, sampling)

        # After the prompt, after each answer token: the last of these positions is to end it.
        sequences = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
        return self.read_logits(sequences, [len(answer) + 1 for answer in answers], work)

    @staticmethod
    def check_sampling(sampling: Sampling) -> None:
        """Nothing is refused."""

    def sample(
        self,
        prompts: Sequence[Tokens],
        seeds: Sequence[int],
        ends: Sequence[int],
        sampling: Sampling,
    ) -> list[list[Tokens]]:
        """As `Backend.sample`.

        Raises:
            ValueError: If the model has no plain key-value cache.
        """
        shape = (sampling.samples, sampling.most)
        uniforms = [np.random.default_rng(seed).random(shape) for seed in seeds]
        sampler = Sampler(self.model, self._pad_id, ends, sampling)
        with inference(self.model):
            prefix = None
            if self.share_prefix and (length := shared_length(prompts, [1] * len(prompts))):
                prefix = compute_prefix(self.model, prompts[0][:length])
            rest = [row[prefix.length if prefix else 0 :] for row in prompts]

            def work(batch: list[int]) -> list[list[Tokens]]:
                drawn = torch.from_numpy(np.concatenate([uniforms[index] for index in batch]))
                drawn = drawn.to(self.model.device)
                rows: list[list[Tokens]] = sampler.decode(
                    [rest[index] for index in batch], prefix, drawn
                ).tolist()
                return rows

            # A prompt takes a row for each different answer: one as a rule, at worst 1 + N.
            return self._by_length([len(row) + sampling.most for row in prompts], work, None)

    def _teacher_forced(
        self,
        prompts: Sequence[Tokens],
        answers: Sequence[Sequence[int]],
        work: Callable[[list[int], Tensor], Sequence[T]],
        progress: Progress | None,
    ) -> list[T]:
        """What `work` makes of the logits that predict the answers' tokens."""
        pairs = zip(prompts, answers, strict=True)
        sequences = [[*prompt, *answer[:-1]] for prompt, answer in pairs]
        return self.read_logits(
            sequences, [len(answer) for answer in answers], work, progress=progress
        )

    def _by_length(
        self,
        lengths: Sequence[int],
        work: Callable[[list[int]], Sequence[T]],
        progress: Progress | None,
    ) -> list[T]:
        return by_length(
            lengths, work, self.model.device, batch_size=self.batch_size, progress=progress
        )


def _tokens(batch: Sequence[int], answers: Sequence[Sequence[int]], logits: Tensor) -> Tensor:
    """The tokens of the batch's answers, one answer after the other, int64 [k]."""
    return torch.tensor([token for i in batch for token in answers[i]], device=logits.device)


def _odds(
    logits: Tensor, answers: Sequence[Sequence[int]], ends: Tensor, sampling: Sampling
) -> list[AnswerOdds]:
    """The odds of each answer, from the logits after its prompt and after each of its tokens."""
    lengths = [len(answer) + 1 for answer in answers]
    last = torch.tensor(lengths, device=logits.device).cumsum(0) - 1
    # One matrix of wanted tokens: the answer's own in the first column, the ends after it.
    own = [token for answer in answers for token in (*answer, answer[-1])]
    first = torch.tensor(own, device=logits.device)[:, None]
    tokens = torch.cat([first, ends.repeat(len(logits), 1)], dim=1)
    log_q = log_probabilities(logits, tokens, sampling.temperature, sampling.top_k)
    steps = log_q[:, 0].double()
    steps[last] = log_q[last, 1:].double().logsumexp(-1)
    best = logits.argmax(-1)
    greedy = best == tokens[:, 0]
    greedy[last] = torch.isin(best[last], ends)
    return [
        AnswerOdds(bool(right.all()), of_steps.sum().exp().item())
        for right, of_steps in zip(greedy.split(lengths), steps.split(lengths), strict=True)
    ]
