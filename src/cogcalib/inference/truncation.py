"""The distribution that answers are sampled from: tempered, cut to the k most probable tokens.

q(v) = exp(z_v / T) / sum of the same over {w: fewer than k logits are larger than z_w}, 0 outside.
Tokens that tie with the k-th stay, as in transformers' `TopKLogitsWarper`; in bfloat16 ties are
common. Exact and sampled mode share this file, so that they speak of one distribution.
"""

from __future__ import annotations

from collections.abc import Mapping

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


def from_most_probable(
    log_p: Mapping[int, float], temperature: float, top_k: int, *, whole: bool
) -> dict[int, float] | None:
    """q where only the most probable tokens of a position are known.

    Args:
        log_p: Token -> log-probability, nats, of at least the k most probable.
        temperature: T.
        top_k: k, at least 1.
        whole: Whether that is the whole vocabulary.

    Returns:
        Token -> q of those that are not cut, fractions; None if tokens that are not in `log_p` may
        tie with the k-th.
    """
    values = torch.tensor(list(log_p.values()), dtype=torch.float64)
    if not whole and values.sort(descending=True).values[top_k - 1] == values.min():
        return None
    # q does not change if all logits are moved by the same number.
    log_q = log_probabilities(values[None], torch.arange(len(values))[None], temperature, top_k)
    pairs = zip(log_p, log_q[0].exp().tolist(), strict=True)
    return {token: q for token, q in pairs if q > 0}


def cumulative(logits: Tensor, temperature: float, top_k: int) -> tuple[Tensor, Tensor]:
    """The tokens that are not cut in the order of their ids, and the sums of q up to each.

    Args:
        logits: Over the vocabulary, [n, V].
        temperature: T.
        top_k: k; 0 cuts nothing.

    Returns:
        Token ids, int64 [n, m], and sums, float64 [n, m]. Where a row has fewer than m tokens the
        others add nothing to its sums.
    """
    if not 0 < top_k < logits.shape[1]:
        ids = torch.arange(logits.shape[1], device=logits.device).expand(logits.shape)
        return ids, (logits / temperature).softmax(-1, dtype=torch.float64).cumsum(-1)
    least = logits.topk(top_k, sorted=True).values[:, -1:]
    most = int((logits >= least).sum(-1).max())
    ids = logits.topk(most, sorted=False).indices.sort(-1).values
    kept = logits.gather(1, ids)
    kept = kept.masked_fill(kept < least, -torch.inf)
    return ids, (kept / temperature).softmax(-1, dtype=torch.float64).cumsum(-1)


def draw(ids: Tensor, summed: Tensor, uniform: Tensor) -> Tensor:
    """Tokens drawn from q, one a row, by inverting its sums.

    Args:
        ids, summed: As `cumulative` gives them, [n, m].
        uniform: A number in [0, 1) for each row, float64 [n].

    Returns:
        Token ids, int64 [n].
    """
    # Times the last sum, which rounding may leave below 1. A token of probability 0 adds nothing to
    # the sum and is never the first above it.
    last = summed[:, -1:]
    sought = torch.minimum(uniform[:, None] * last, last.nextafter(torch.zeros_like(last)))
    return ids.gather(1, torch.searchsorted(summed, sought, right=True)).squeeze(1)
