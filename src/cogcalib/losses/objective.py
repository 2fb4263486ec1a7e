"""The training objective: cross-entropy of every token, penalty of the gated examples' tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from cogcalib.losses.gates import Gate
from cogcalib.losses.statistics import TokenStatistics, token_statistics
from cogcalib.losses.terms import Penalty, cross_entropy, token_penalty

NllReduction = Literal["mean", "sum"]


@dataclass(frozen=True, slots=True)
class LossParts:
    """A loss and what it consists of: ``loss = ce + alpha * penalty``.

    Attributes:
        loss: Scalar with graph.
        ce: Reduced cross-entropy, detached scalar.
        penalty: Reduced penalty after the gate and before alpha, detached scalar.
        nll: NLL of each example in nats, detached, ``[B]``.
        weights: Gate weight of each example, ``[B]``.
    """

    loss: Tensor
    ce: Tensor
    penalty: Tensor
    nll: Tensor
    weights: Tensor


class FusedParts(NamedTuple):
    """`LossParts`, and what the logits say at each token.

    A tuple, since wrappers for distributed training look for tensors in what a model returns.

    Attributes:
        loss: Scalar with graph, ``ce + alpha * penalty``.
        ce: Reduced cross-entropy, detached scalar.
        penalty: Reduced penalty after the gate and before alpha, detached scalar.
        nll: NLL of each example in nats, detached, ``[B]``.
        weights: Gate weight of each example, ``[B]``.
        token_ce: Cross-entropy of each token in nats, detached, ``[N]``.
        entropy: Entropy over the vocabulary at each token in nats, detached, ``[N]``.
        correct: Whether the target is the arg max, ``[N]`` bool.
        log_confidence: Log of the largest probability at each token, nats, detached, ``[N]``.
        token_penalty: R of each token, detached, ``[N]``; defined where the gate is open.
        option_scores: Logits of the options, -inf where there is none, detached, ``[N, K]``; None
            without options.
    """

    loss: Tensor
    ce: Tensor
    penalty: Tensor
    nll: Tensor
    weights: Tensor
    token_ce: Tensor
    entropy: Tensor
    correct: Tensor
    log_confidence: Tensor
    token_penalty: Tensor
    option_scores: Tensor | None

    @classmethod
    def of(cls, parts: LossParts, found: TokenStatistics, token_penalty: Tensor) -> FusedParts:
        """The parts of a loss beside the statistics of its tokens."""
        return cls(
            loss=parts.loss,
            ce=parts.ce,
            penalty=parts.penalty,
            nll=parts.nll,
            weights=parts.weights,
            token_ce=found.ce,
            entropy=found.entropy,
            correct=found.correct,
            log_confidence=found.log_confidence,
            token_penalty=token_penalty.detach(),
            option_scores=found.option_scores,
        )


def example_nll(
    ce: Tensor, example: Tensor, n_examples: int, reduction: NllReduction = "mean"
) -> Tensor:
    """NLL of each example's answer: mean (or sum) of its tokens' cross-entropy, detached, ``[B]``.

    Args:
        ce: Cross-entropy of each supervised token, ``[N]``.
        example: Index of the example each token belongs to, ``[N]``, in ``range(n_examples)``.
        n_examples: B.
        reduction: ``mean`` over the answer's tokens, or their ``sum``.

    An example without supervised token has NLL 0; it takes no part in any loss.
    """
    ce = ce.detach()
    total = ce.new_zeros(n_examples).index_add(0, example, ce)
    if reduction == "sum":
        return total
    return total / torch.bincount(example, minlength=n_examples).clamp(min=1)


def cogcalib_loss(
    ce: Tensor,
    penalty: Tensor,
    example: Tensor,
    n_examples: int,
    *,
    alpha: float,
    gate: Gate,
    log_confidence: Tensor | None = None,
    num_items_in_batch: Tensor | int | None = None,
    nll_reduction: NllReduction = "mean",
) -> LossParts:
    """``L = sum_tokens (CE + alpha g_i R) / num_items_in_batch``, g_i the gate of token's example.

    Every term shares the denominator of TRL's SFT loss, so that gradient accumulation and data
    parallelism change nothing. Source: Wang et al., ACL 2025, arXiv 2505.20903.

    Args:
        ce: Cross-entropy of each supervised token, ``[N]``.
        penalty: R of each supervised token, ``[N]``.
        example: Index of the example each token belongs to, ``[N]``.
        n_examples: B.
        alpha: Weight of the penalty, >= 0.
        gate: Weighs each example by its NLL.
        log_confidence: Log of the largest probability at each token, nats, ``[N]``; for a gate
            that weighs by the model's own answers.
        num_items_in_batch: Supervised tokens of the whole optimiser step; None: those given here.
        nll_reduction: How an example's NLL reduces over its tokens.

    Returns:
        The parts. Without any supervised token the loss is a finite 0 with a graph.
    """
    nll = example_nll(ce, example, n_examples, nll_reduction)
    own = None
    if log_confidence is not None:
        own = example_nll(-log_confidence, example, n_examples, nll_reduction)
    weights = gate.weights(nll, own=own)
    items = len(ce) if num_items_in_batch is None else num_items_in_batch
    denominator = torch.as_tensor(items, device=ce.device).clamp(min=1)
    mean_ce = ce.sum() / denominator
    mean_penalty = (weights[example] * penalty).sum() / denominator
    return LossParts(
        loss=mean_ce + alpha * mean_penalty,
        ce=mean_ce.detach(),
        penalty=mean_penalty.detach(),
        nll=nll,
        weights=weights,
    )


def reference_loss(
    logits: Tensor,
    targets: Tensor,
    example: Tensor,
    n_examples: int,
    *,
    penalty: Penalty,
    alpha: float,
    gate: Gate,
    option_ids: Tensor | None = None,
    num_items_in_batch: Tensor | int | None = None,
    nll_reduction: NllReduction = "mean",
) -> FusedParts:
    """The readable counterpart of `cogcalib.losses.fused_cogcalib_loss`, which see, over logits.

    Args:
        logits: At the supervised tokens, ``[N, V]``.
        targets: Token ids, ``[N]``.
        example: Index of the example each token belongs to, ``[N]``.
        n_examples: B.
        penalty: Which R.
        alpha: Weight of the penalty, >= 0.
        gate: Weighs each example by its NLL.
        option_ids: ``[N, K]``, as in `token_penalty`; needed for ``support="options"``.
        num_items_in_batch: As in `cogcalib_loss`.
        nll_reduction: How an example's NLL reduces over its tokens.
    """
    targets, example = targets.to(logits.device), example.to(logits.device)
    option_ids = None if option_ids is None else option_ids.to(logits.device)
    ce = cross_entropy(logits, targets)
    of_token = token_penalty(penalty, logits, targets, option_ids)
    with torch.no_grad():
        found = token_statistics(logits, targets, option_ids)
    parts = cogcalib_loss(
        ce,
        of_token,
        example,
        n_examples,
        alpha=alpha,
        gate=gate,
        log_confidence=found.log_confidence,
        num_items_in_batch=num_items_in_batch,
        nll_reduction=nll_reduction,
    )
    return FusedParts.of(parts, found, of_token)
