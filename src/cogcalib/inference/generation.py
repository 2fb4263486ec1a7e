"""Greedy and sampled generation.

Not transformers' `generate`: that merges whatever the model's generation config names, such as a
repetition penalty, into a greedy search, and keeps every step's logits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from cogcalib.inference.backend import Sampling, Tokens
from cogcalib.inference.logits import forward, pad_left, upcast
from cogcalib.inference.prefix import Prefix
from cogcalib.inference.truncation import cumulative, draw


def answer_length(tokens: Sequence[int], ends: Collection[int]) -> int:
    """How many of the tokens belong to the answer, the one that ends it among them."""
    return next((at for at, token in enumerate(tokens, start=1) if token in ends), len(tokens))


def decode_greedily(
    model: PreTrainedModel,
    ids: Tensor,
    mask: Tensor,
    *,
    ends: Collection[int],
    most: int,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Greedy tokens and their log-probabilities, both [b, steps]; what follows an end is void.

    Args:
        model: A causal language model with a key-value cache.
        ids, mask: A batch padded on the left, [b, n].
        ends: Tokens that end an answer.
        most: Longest answer in tokens.
        temperature: Of the log-probabilities.

    Raises:
        ValueError: If the model has no key-value cache.
    """
    tokens: list[Tensor] = []
    logprobs: list[Tensor] = []
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    last = torch.tensor(sorted(ends), device=ids.device)
    cache = None
    while len(tokens) < most and not ended.all():
        output = forward(model, ids, mask, 1, past_key_values=cache, use_cache=True)
        cache = getattr(output, "past_key_values", None)
        if cache is None:
            raise ValueError(
                f"the model {type(model).__name__} gives no key-value cache to generate with"
            )
        logits = upcast(output.logits[:, -1])
        token = logits.argmax(-1, keepdim=True)
        logprobs.append((logits / temperature).log_softmax(-1).gather(1, token))
        tokens.append(token)
        ended |= torch.isin(token[:, 0], last)
        ids, mask = token, torch.cat([mask, torch.ones_like(token)], dim=1)
    return torch.cat(tokens, dim=1), torch.cat(logprobs, dim=1)


class Sampler:
    """Generates answers: to each prompt the greedy one first, then the samples.

    A prompt's keys and values are computed once for all its answers, and answers that begin alike
    are read together until they part: sampling sixteen times costs little more than the different
    answers that come of it.

    Args:
        model: A causal language model with a plain key-value cache.
        pad_id: Any token.
        ends: Tokens that end an answer.
        sampling: Samples, temperature, top-k, longest answer.
    """

    def __init__(
        self, model: PreTrainedModel, pad_id: int, ends: Sequence[int], sampling: Sampling
    ) -> None:
        self.model, self.pad_id, self.sampling = model, pad_id, sampling
        self.ends = torch.tensor(ends, device=model.device)

    def decode(self, rest: Sequence[Tokens], prefix: Prefix | None, uniforms: Tensor) -> Tensor:
        """Tokens of all answers, [b, 1 + N, steps]; what follows an end is void.

        Args:
            rest: Token ids of the prompts behind the prefix.
            prefix: Shared by them all, or None.
            uniforms: Numbers in [0, 1) that decide the draws, [b * N, most].

        Raises:
            ValueError: If the model has no plain key-value cache.
        """
        logits, cache, mask = self._read(rest, prefix)
        # Which row of the batch each answer stands on: a question's answers share one until they
        # part, and most never do.
        answers = self.sampling.samples + 1
        row = torch.arange(len(rest), device=logits.device).repeat_interleave(answers)
        open_ = torch.ones_like(row, dtype=torch.bool)
        tokens: list[Tensor] = []
        while True:
            chosen = self._next(logits, row, uniforms[:, len(tokens)])
            tokens.append(torch.where(open_, chosen, self.ends[0]))
            open_ &= ~torch.isin(chosen, self.ends)
            if len(tokens) == self.sampling.most or not open_.any():
                return torch.stack(tokens, dim=1).view(len(rest), answers, -1)
            vocabulary = logits.shape[-1]
            pairs = row[open_] * vocabulary + chosen[open_]
            distinct, row[open_] = pairs.unique(return_inverse=True)
            row[~open_] = 0
            before, ids = distinct // vocabulary, (distinct % vocabulary)[:, None]
            cache.batch_select_indices(before)
            mask = torch.cat([mask[before], torch.ones_like(ids)], dim=1)
            output = forward(self.model, ids, mask, 1, past_key_values=cache, use_cache=True)
            logits = upcast(output.logits[:, -1])

    def _read(
        self, rest: Sequence[Tokens], prefix: Prefix | None
    ) -> tuple[Tensor, DynamicCache, Tensor]:
        """Logits after the prompts, their keys and values, and their mask."""
        ids, mask = pad_left(rest, self.pad_id, self.model.device)
        given = {}
        if prefix is not None:
            mask = torch.cat([mask.new_ones(len(ids), prefix.length), mask], dim=1)
            given = {"past_key_values": prefix.repeated(len(ids))}
        output = forward(self.model, ids, mask, 1, use_cache=True, **given)
        cache = getattr(output, "past_key_values", None)
        if not isinstance(cache, DynamicCache):
            raise ValueError(
                f"the model {type(self.model).__name__} gives no plain key-value cache to sample "
                "with; exact mode needs none"
            )
        return upcast(output.logits[:, -1]), cache, mask

    def _next(self, logits: Tensor, row: Tensor, uniform: Tensor) -> Tensor:
        """The next token of every answer, of which each (1 + N)-th is greedy."""
        rows = row.view(-1, self.sampling.samples + 1)
        ids, summed = cumulative(logits, self.sampling.temperature, self.sampling.top_k)
        samples = rows[:, 1:].flatten()
        drawn = draw(ids[samples], summed[samples], uniform)
        greedy = logits[rows[:, 0]].argmax(-1, keepdim=True)
        return torch.cat([greedy, drawn.view(len(rows), -1)], dim=1).flatten()
