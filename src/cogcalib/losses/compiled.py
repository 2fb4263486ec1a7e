"""Experimental: what is done with a tile's elements, compiled instead of kernel after kernel.

One pass reads the statistics off the logits, a second one turns them into the gradient. Both are
the readable terms themselves, the gradient theirs by automatic differentiation; `torch.compile`
makes a few kernels of them, Triton's on CUDA, C++ on a CPU. Matrix products, bias, scale and
softcap stay with `cogcalib.losses.projection`, the penalty over options with
`cogcalib.losses.fused_pass`.

Meant for CUDA, where it has not run yet: tested on a CPU, eagerly and compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from cogcalib.losses.projection import cap_slope
from cogcalib.losses.statistics import token_statistics
from cogcalib.losses.terms import Penalty, cross_entropy, token_penalty
from cogcalib.losses.tiles import Tiles


class CompiledTiles(Tiles):
    """`Tiles` in two compiled passes; the scratch of the eager one is never allocated."""

    def load(self, rows: slice) -> Tensor:
        """Compute the logits of some rows into the buffer; all their statistics become known."""
        tile = self._tile[: rows.stop - rows.start]
        self.projection.logits_into(tile, rows)
        option_ids = None if self.option_ids is None else self.option_ids[rows]
        found = compiled(token_statistics)(tile, self.targets[rows], option_ids)
        for everywhere, here in zip(self.statistics, found, strict=True):
            if everywhere is not None:
                everywhere[rows] = here
        return tile

    def differentiate(
        self,
        tile: Tensor,
        rows: slice,
        penalty: Penalty,
        weights: Tensor | None,
        with_ce: bool = True,
    ) -> None:
        """As `Tiles.differentiate`."""
        softcap, targets = self.projection.softcap, self.targets[rows]
        values = compiled(differentiate_into)(tile, targets, penalty, weights, softcap, with_ce)
        if weights is not None:
            self.penalty[rows] = values


def differentiate_into(
    logits: Tensor,
    targets: Tensor,
    penalty: Penalty,
    weights: Tensor | None,
    softcap: float | None,
    with_ce: bool,
) -> Tensor:
    """Replace logits by ``d (CE + w R) / d logits`` before the softcap.

    Args:
        logits: ``[n, V]``; overwritten.
        targets: Token ids, ``[n]``.
        penalty: R over the vocabulary.
        weights: w of each row, ``[n]``; None: 0.
        softcap: Bound on the logits' magnitude that they have gone through, or None.
        with_ce: False: only ``d (w R) / d logits``.

    Returns:
        R of each row, ``[n]``; without weights 0.
    """

    def objective(scores: Tensor) -> tuple[Tensor, Tensor]:
        total, values = scores.new_zeros(()), scores.new_zeros(len(scores))
        if with_ce:
            total = total + cross_entropy(scores, targets).sum()
        if weights is not None:
            values = token_penalty(penalty, scores, targets)
            total = total + (weights * values).sum()
        return total, values

    slopes, values = torch.func.grad(objective, has_aux=True)(logits)
    if softcap is not None:
        slopes = slopes * cap_slope(logits, softcap)
    logits.copy_(slopes)
    return values


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compile` of a function, once: importing the compiler takes seconds."""
    return torch.compile(function)
