"""The distribution that answers are sampled from: tempered, cut to the k most probable tokens.

q(v) = exp(z_v / T) / sum of the same over {w: fewer than k logits are larger than z_w}, 0 outside.
Tokens that tie with the k-th stay, as in transformers' `TopKLogitsWarper`; in bfloat16 ties are
common. Exact and sampled mode share this file, so that they speak of one distribution.
"""

from __future__ import annotations

import torch
from torch import Tensor


def log_probabilities(logits: Tensor, tokens: Tensor, temperature: float, top_k: int) -> Tensor:
    """log q of some tokens at each position.

    Args:
        logits: Over the vocabulary, [n, V].
        tokens: Token ids, [n, m].
        temperature: T.
        top_k: k; 0 cuts nothing.

    Returns:
        [n, m], nats, -inf for a token that is cut.
    """
    chosen = logits.gather(1, tokens)
    if not 0 < top_k < logits.shape[1]:
        return chosen / temperature - (logits / temperature).logsumexp(-1, keepdim=True)
    top = logits.topk(top_k, sorted=True).values
    least = top[:, -1:]
    total = (top / temperature).logsumexp(-1, keepdim=True)
    beyond = (logits >= least).sum(-1, keepdim=True) - top_k
    if beyond.any():
        ties = least / temperature + beyond.to(logits.dtype).log()
        total = torch.logaddexp(total, ties)
    return (chosen / temperature - total).masked_fill(chosen < least, -torch.inf)


def cumulative(logits: Tensor, temperature: float, top_k: int) -> Tensor:
    """Sums of q up to each token in the order of the ids, float64 [n, V]; logits are [n, V]."""
    if 0 < top_k < logits.shape[1]:
        least = logits.topk(top_k, sorted=True).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    return (logits / temperature).softmax(-1, dtype=torch.float64).cumsum(-1)


def draw(summed: Tensor, uniform: Tensor) -> Tensor:
    """Tokens drawn from q, one a row, by inverting its sums.

    Args:
        summed: As `cumulative` gives them, [n, V].
        uniform: A number in [0, 1) for each row, float64 [n].

    Returns:
        Token ids, int64 [n].
    """
    # Times the last sum, which rounding may leave below 1. A token of probability 0 adds nothing to
    # the sum and is never the first above it.
    last = summed[:, -1:]
    sought = torch.minimum(uniform[:, None] * last, last.nextafter(torch.zeros_like(last)))
    return torch.searchsorted(summed, sought, right=True).squeeze(1)
