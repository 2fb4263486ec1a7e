"""The training objective: cross-entropy of every token, penalty of the gated examples' tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

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
    gate: Callable[[Tensor], Tensor],
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
        alpha: Strength of the penalty, >= 0.
        gate: Maps the detached NLL of each example, ``[B]``, to its weight in [0, 1], ``[B]``.
        num_items_in_batch: Supervised tokens of the whole optimiser step; None: those given here.
        nll_reduction: How an example's NLL reduces over its tokens.

    Returns:
        The parts. Without any supervised token the loss is a finite 0 with a graph.
    """
    nll = example_nll(ce, example, n_examples, nll_reduction)
    weights = gate(nll)
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
