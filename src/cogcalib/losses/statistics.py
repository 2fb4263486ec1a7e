"""Statistics of the logits at each supervised token, and what follows for an answer."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from cogcalib.losses.terms import NO_OPTION, cross_entropy, entropy


class AnswerStatistics(Protocol):
    """What judges an answer, as `TokenStatistics` and the parts of a loss have it."""

    @property
    def correct(self) -> Tensor:
        """Whether the target is the arg max, ``[N]`` bool."""
        ...

    @property
    def log_confidence(self) -> Tensor:
        """Log of the largest probability over the vocabulary, nats, ``[N]``."""
        ...

    @property
    def option_scores(self) -> Tensor | None:
        """Logits of the options, -inf where there is none, ``[N, K]``; or None."""
        ...


class TokenStatistics(NamedTuple):
    """What the logits say at N supervised tokens, without gradient.

    A tuple, since DeepSpeed looks for tensors in tuples, and into every other object.

    Attributes:
        ce: Negative log-likelihood of the target, nats, ``[N]``.
        entropy: Of the distribution over the vocabulary, nats, ``[N]``.
        correct: Whether the target is the arg max (the first of equals), ``[N]`` bool.
        target_logit: Logit of the target, ``[N]``.
        log_confidence: Log of the largest probability over the vocabulary, nats, ``[N]``.
        option_scores: Logits of the options, -inf where there is none, ``[N, K]``; or None.
    """

    ce: Tensor
    entropy: Tensor
    correct: Tensor
    target_logit: Tensor
    log_confidence: Tensor
    option_scores: Tensor | None


def token_statistics(
    logits: Tensor, targets: Tensor, option_ids: Tensor | None = None
) -> TokenStatistics:
    """Statistics read off logits: the readable reference.

    Args:
        logits: ``[N, V]``.
        targets: Token ids, ``[N]``.
        option_ids: ``[N, K]`` token ids whose logits are wanted, filled up with -1; or None.
    """
    scores = None
    if option_ids is not None:
        scores = logits.gather(1, option_ids.clamp(min=0))
        scores = scores.masked_fill(option_ids == NO_OPTION, -torch.inf)
    best = logits.argmax(1)
    return TokenStatistics(
        ce=cross_entropy(logits, targets),
        entropy=entropy(logits.float() if logits.dtype.itemsize < 4 else logits),
        correct=best == targets,
        target_logit=logits.gather(1, targets[:, None]).squeeze(1),
        log_confidence=-cross_entropy(logits, best),
        option_scores=scores,
    )


def known_examples(
    statistics: AnswerStatistics,
    targets: Tensor,
    example: Tensor,
    n_examples: int,
    option_ids: Tensor | None = None,
) -> Tensor:
    """Whether the model answers correctly by itself, for each example, ``[B]`` bool.

    Where options compete, their arg max is the gold one, and the other tokens do not matter.
    Otherwise every supervised token, the end token included, is the arg max under teacher forcing,
    which is exactly when greedy decoding yields the answer.

    Args:
        statistics: What the model says at the supervised tokens.
        targets: Those tokens, ``[N]``.
        example: Index of the example each token belongs to, ``[N]``, in ``range(n_examples)``.
        n_examples: B. Without a supervised token an example counts as known.
        option_ids: ``[N, K]``, those of the statistics: -1 but at the token where they compete.
    """
    correct, scores = statistics.correct, statistics.option_scores
    if option_ids is not None and scores is not None and scores.shape[1]:
        best = option_ids.gather(1, scores.argmax(1, keepdim=True)).squeeze(1)
        competing = (option_ids != NO_OPTION).any(1)
        chosen = competing.new_zeros(n_examples)
        chosen[example[competing]] = True
        correct = torch.where(chosen[example], ~competing | (best == targets), correct)
    wrong = torch.zeros(n_examples, dtype=torch.long, device=correct.device)
    return wrong.index_add(0, example, (~correct).long()) == 0
