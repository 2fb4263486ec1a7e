"""The objective without the logits: hidden states and head in; loss, statistics, gradients out.

The gradients are computed in the forward pass, tile by tile: logits, statistics, gate, and then the
tile turned in place into the gradient, three matrix products per token. The gate needs the NLL of a
whole example before the penalty's gradient is weighted:

- A tile holds whole examples where the penalty is over the vocabulary. Of an example with more
  tokens than a tile, each tile is weighted as the gate answers to the NLL so far, and corrected if
  the whole NLL says otherwise. Only label smoothing without a softcap needs no tile for that: it is
  linear in the hidden state, ``R = z_y - h . mean(W) - mean(b)``, and is added at the end, O(N H).
- Where the penalty is over options it touches K logits: tiles are any rows, and the penalty's
  gradient is added at the end.

`cogcalib.losses.terms` and `cogcalib.losses.objective` are the reference it is tested against. On
CUDA the same tiles run eagerly through cuBLAS, or with `cogcalib.losses.compiled`, which is
experimental; neither has been measured there yet.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cogcalib.losses.fused_pass import FusedPass, Objective, SupervisedBatch, rows_of, spans
from cogcalib.losses.gates import Gate
from cogcalib.losses.objective import FusedParts, NllReduction
from cogcalib.losses.projection import LinearHead, Projection
from cogcalib.losses.statistics import TokenStatistics
from cogcalib.losses.terms import Penalty
from cogcalib.losses.tiles import Tiles


def fused_cogcalib_loss(
    hidden: Tensor,
    head: LinearHead,
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
    tile_bytes: int | None = None,
    compiled: bool = False,
) -> FusedParts:
    """``L = sum_tokens (CE + alpha g_i R) / num_items_in_batch``, never holding all the logits.

    The same as `reference_loss` of the head's logits, in value and gradient. Targets, examples and
    options may be on another device than the hidden states. Source: Wang et al., ACL 2025, arXiv
    2505.20903.

    Gradients come from the forward pass: the loss can be differentiated once, and not twice.

    Args:
        hidden: Last hidden state at the supervised tokens, ``[N, H]``.
        head: How it becomes logits.
        targets: Token ids, ``[N]``.
        example: Index of the example each token belongs to, ascending, ``[N]``.
        n_examples: B.
        penalty: Which R.
        alpha: Weight of the penalty, >= 0.
        gate: Weighs each example by its NLL. An example with more tokens than a tile is weighed
            several times, by the NLL so far, and the last answer counts.
        option_ids: ``[N, K]``, as in `token_penalty`; needed for ``support="options"``.
        num_items_in_batch: Supervised tokens of the whole optimiser step; None: those given here.
        nll_reduction: How an example's NLL reduces over its tokens.
        tile_bytes: Memory for a tile of logits; None: 128 MiB, on CUDA 512 MiB.
        compiled: Experimental: whether `torch.compile` makes the kernels that work on a tile, which
            takes a minute or so at first. Meant for CUDA, where it has not been measured yet.

    Returns:
        The parts. Without any supervised token the loss is a finite 0 with a graph.

    Raises:
        ValueError: If shapes do not fit, `example` is not ascending or out of range, a target is
            not in the vocabulary, or options are needed and missing.
    """
    if penalty.support == "options" and option_ids is None:
        raise ValueError("penalty.support='options' needs option_ids, got None")
    targets, option_ids = _checked(hidden, head, targets, option_ids, tile_bytes)
    example = _checked_examples(example, n_examples, targets)
    items = len(targets) if num_items_in_batch is None else num_items_in_batch
    denominator = torch.as_tensor(items, device=hidden.device).clamp(min=1)
    tensors = (hidden, *head.parameters)
    graph = torch.is_grad_enabled()
    projection = Projection(hidden, head)
    with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
        fused = FusedPass(
            projection,
            SupervisedBatch(targets, option_ids, example, n_examples),
            Objective(penalty, alpha, gate, nll_reduction, denominator),
            tuple(graph and each is not None and each.requires_grad for each in tensors),
            tile_bytes=tile_bytes,
            compiled=compiled,
        )
        parts = fused.run()
    return parts._replace(loss=_HandOut.apply(*tensors, fused, parts.loss, head.scale))


@torch.no_grad()
def fused_statistics(
    hidden: Tensor,
    head: LinearHead,
    targets: Tensor,
    option_ids: Tensor | None = None,
    *,
    tile_bytes: int | None = None,
) -> TokenStatistics:
    """What the head's logits say at N tokens, without gradient and never holding all of them.

    Args:
        hidden: ``[N, H]``.
        head: How it becomes logits.
        targets: Token ids, ``[N]``.
        option_ids: ``[N, K]`` token ids whose logits are wanted, filled up with -1; or None.
        tile_bytes: As in `fused_cogcalib_loss`.

    Raises:
        ValueError: If shapes do not fit or a target is not in the vocabulary.
    """
    targets, option_ids = _checked(hidden, head, targets, option_ids, tile_bytes)
    projection = Projection(hidden, head)
    with torch.autocast(hidden.device.type, enabled=False):
        rows = rows_of(projection, tile_bytes)
        tiles = Tiles(projection, targets, option_ids, rows)
        for span in spans(slice(0, len(targets)), rows):
            tiles.load(span)
    return tiles.statistics


class _HandOut(torch.autograd.Function):
    """Gives a loss the gradients that were computed with it."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        low_rank_input: Tensor | None,
        low_rank_weight: Tensor | None,
        fused: FusedPass,
        loss: Tensor,
        scale: float,
    ) -> Tensor:
        ctx.set_materialize_grads(False)
        if fused.gradients is not None:
            # Kept on the node, not as saved tensors: they are nobody's activations, and backward
            # scales them where they lie.
            ctx.gradients = fused.gradients.sums
            ctx.scale, ctx.denominator = scale, fused.denominator
            ctx.dtypes = [
                None if tensor is None else tensor.dtype
                for tensor in (hidden, weight, bias, low_rank_input, low_rank_weight)
            ]
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor | None) -> tuple[Any, ...]:
        if grad_loss is None:
            return (None,) * 8
        # `once_differentiable` stops only who goes on through `grad_loss`. Through the head the
        # second derivative would silently be zero.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the fused loss has no second derivative: backward with create_graph=True needs "
                "reference_loss over the logits"
            )
        if ctx.gradients is None:
            raise RuntimeError(
                "the fused loss hands out its gradients once; call the loss again to go backward "
                "a second time"
            )
        factor = grad_loss * ctx.scale / ctx.denominator
        gradients = [
            None if gradient is None else gradient.mul_(factor).to(dtype)
            for gradient, dtype in zip(ctx.gradients, ctx.dtypes, strict=True)
        ]
        ctx.gradients = None
        return (*gradients, None, None, None)


def _checked(
    hidden: Tensor,
    head: LinearHead,
    targets: Tensor,
    option_ids: Tensor | None,
    tile_bytes: int | None,
) -> tuple[Tensor, Tensor | None]:
    """Targets and options beside the hidden states, if everything fits."""
    targets = targets.to(hidden.device)
    option_ids = None if option_ids is None else option_ids.to(hidden.device)
    if hidden.ndim != 2 or hidden.shape[1] != head.weight.shape[1]:
        raise ValueError(
            f"hidden must be [N, H] with H={head.weight.shape[1]} as in head.weight, "
            f"got shape {tuple(hidden.shape)}"
        )
    n, vocabulary = len(hidden), len(head.weight)
    if targets.shape != (n,):
        raise ValueError(f"targets must be [N] with N={n}, got shape {tuple(targets.shape)}")
    if head.low_rank_input is not None and len(head.low_rank_input) != n:
        raise ValueError(
            f"head.low_rank_input must have N={n} rows, got {len(head.low_rank_input)}"
        )
    if n and not bool(((targets >= 0) & (targets < vocabulary)).all()):
        raise ValueError(
            f"targets must be token ids in [0, {vocabulary}), "
            f"got {int(targets.min())} to {int(targets.max())}"
        )
    if option_ids is not None and (option_ids.ndim != 2 or len(option_ids) != n):
        raise ValueError(
            f"option_ids must be [N, K] with N={n}, got shape {tuple(option_ids.shape)}"
        )
    if tile_bytes is not None and tile_bytes < 1:
        raise ValueError(f"tile_bytes must be None or a number of bytes >= 1, got {tile_bytes}")
    return targets, option_ids


def _checked_examples(example: Tensor, n_examples: int, targets: Tensor) -> Tensor:
    """The examples beside their targets, if they fit."""
    example = example.to(targets.device)
    if example.shape != targets.shape:
        raise ValueError(
            f"example must be [N] with N={len(targets)}, got shape {tuple(example.shape)}"
        )
    if len(example) == 0:
        return example
    if bool((example[1:] < example[:-1]).any()):
        raise ValueError("example must be ascending: the tokens of an example stand together")
    first, last = int(example[0]), int(example[-1])
    if first < 0 or last >= n_examples:
        raise ValueError(f"example must lie in [0, {n_examples}), got {first} to {last}")
    return example
