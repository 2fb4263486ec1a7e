"""A trial of the model itself: examples in one row must not see each other.

Attention kernels for sequences of various lengths keep examples apart by ``cu_seq_lens_*``;
transformers' ``sdpa`` and ``eager`` masks do it by ``position_ids``; some architectures do neither,
in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cogcalib.training.supervised_logits import supervised_logits, undisturbed
from cogcalib.training.supervision import supervised_tokens

N_TOKENS = 16
"""Different tokens the model is tried with."""

LEAK = 1e-3
"""Largest relative difference by the tokens of other examples that is rounding. In any precision 0
to 2e-7 are seen without a leak, since the same is computed at the same place, and with one 2.4e-3
(a tiny untrained BLOOM) and more."""

TOLERANCE = 2e-3
"""Largest relative difference by the place in the row that is rounding in float32; where nothing
leaks 0 to 1e-6 are seen."""

TOLERANCE_HALF = 5e-2
"""The same in half precision, mixed precision included, with 0 to 2e-2 seen."""

NOISE = 4.0
"""So many times what is seen where nothing can be amiss still counts as that."""


def check_isolation(
    model: nn.Module,
    head: nn.Module,
    collate: Callable[[list[dict[str, Any]]], dict[str, Tensor]],
    token_ids: Iterable[int],
    *,
    device: torch.device,
    tolerance: float,
) -> None:
    """Raise ValueError if an example's logits depend on those before it in its row.

    A row has the same example first and last and another between them; a second row has another of
    the same length there. The last example's logits must be the same in both rows, and the same as
    the first's. What comes later is never seen: how far the first example's logits differ between
    the rows is the model's own noise.

    Args:
        model: Wrapped or not.
        head: Its output embeddings.
        collate: Merges examples into a batch on the model's device.
        token_ids: Tokens of the training data.
        device: Of the model.
        tolerance: Largest relative difference between first and last, in the Euclidean norm, that
            is rounding.
    """
    tokens = _different(token_ids)
    half = len(tokens) // 2
    example, others = tokens[: half + 1], (tokens[half:], tokens[: len(tokens) - half])
    with undisturbed(model, device):
        (first, last), (first_again, last_again) = (
            _first_and_last(model, head, collate, (example, other, example)) for other in others
        )
    noise = NOISE * _difference(first, first_again)
    leak, moved = _difference(last, last_again), _difference(first, last)
    if leak <= max(LEAK, noise) and moved <= max(tolerance, noise):
        return
    raise ValueError(
        "padding_free=True and packing=True are not supported with this model and attention "
        "implementation: examples in one row see each other or are not placed anew (the same "
        f"example's logits differ by {moved:.2g} of their size when it comes last, and by "
        f"{leak:.2g} with another before it); use neither, or another attn_implementation"
    )


def _first_and_last(
    model: nn.Module,
    head: nn.Module,
    collate: Callable[[list[dict[str, Any]]], dict[str, Tensor]],
    examples: Iterable[list[int]],
) -> tuple[Tensor, Tensor]:
    """Logits of the first and the last of `examples` in one row, each ``[N, V]``."""
    batch = collate([{"input_ids": ids, "labels": ids} for ids in examples])
    found = supervised_tokens(batch)
    logits, _ = supervised_logits(model, head, batch, found.positions)
    index = found.units.to(logits.device).index
    return logits[index == 0].float(), logits[index == index.max()].float()


def _difference(one: Tensor, other: Tensor) -> float:
    """Relative, in the Euclidean norm."""
    return float((other - one).norm() / one.norm().clamp(min=torch.finfo().tiny))


def _different(token_ids: Iterable[int]) -> list[int]:
    """The first different tokens, at least two."""
    found: dict[int, None] = {}
    for token in token_ids:
        found[token] = None
        if len(found) == N_TOKENS:
            break
    return list(found) if len(found) > 1 else [*found, *found]
