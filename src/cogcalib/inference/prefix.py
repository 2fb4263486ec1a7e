"""A prefix that all prompts of a call share, such as shots before the question: computed once."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from cogcalib.inference.backend import Tokens

SHORTEST = 16
"""Below this many tokens a shared prefix costs more than it saves."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """Keys and values of the tokens that every sequence begins with.

    Attributes:
        length: How many tokens.
        cache: The model's cache after them, for one sequence.
    """

    length: int
    cache: DynamicCache

    def repeated(self, rows: int) -> DynamicCache:
        """A cache for `rows` sequences. Views: a pass appends to copies and leaves these alone."""
        cache = copy.copy(self.cache)
        cache.layers = [_repeated(layer, rows) for layer in self.cache.layers]
        return cache


def shared_length(sequences: Sequence[Tokens], kept: Sequence[int]) -> int:
    """How many tokens to compute once; 0 where it is not worth it.

    It is if the common prefix has at least `SHORTEST` tokens and a fifth of the mean length. What
    predicts an answer never belongs to it.

    Args:
        sequences: Token ids.
        kept: For each, how many of its last positions the logits are wanted of.
    """
    if len(sequences) < 2:
        return 0
    # Those between the smallest and the largest in lexical order share what these two share.
    low, high = min(sequences), max(sequences)
    pairs = enumerate(zip(low, high, strict=False))
    common = next((at for at, (one, other) in pairs if one != other), len(low))
    room = min(len(row) - keep for row, keep in zip(sequences, kept, strict=True))
    length = min(common, room)
    mean = sum(map(len, sequences)) / len(sequences)
    return length if length >= SHORTEST and 5 * length >= mean else 0


def compute_prefix(model: PreTrainedModel, tokens: Tokens, **kwargs: Any) -> Prefix | None:
    """The prefix of a model with a plain key-value cache, None for any other.

    State-space and hybrid models keep more than keys and values, and theirs cannot be repeated.
    """
    ids = torch.tensor([tokens], device=model.device)
    cache = getattr(model(input_ids=ids, use_cache=True, **kwargs), "past_key_values", None)
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    if not isinstance(cache, DynamicCache) or any(type(row) not in plain for row in cache.layers):
        return None
    return Prefix(len(tokens), cache)


def _repeated(layer: Any, rows: int) -> Any:
    if not layer.is_initialized:  # layers that share another's keys and values
        return copy.copy(layer)
    repeated = copy.copy(layer)
    repeated.keys, repeated.values = _views(layer.keys, rows), _views(layer.values, rows)
    return repeated


def _views(states: Tensor, rows: int) -> Tensor:
    return states.expand(rows, *states.shape[1:])
