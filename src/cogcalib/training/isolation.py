"""Whether examples in one row see each other: tried on the model itself, since none can be asked.

Attention kernels for sequences of various lengths keep examples apart by ``cu_seq_lens_*``;
transformers' ``sdpa`` and ``eager`` masks do it by ``position_ids``; some architectures do neither,
in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cogcalib.training.forward import locate, supervised_logits, undisturbed

N_TOKENS = 16
"""Different tokens the model is tried with."""

TOLERANCE = 2e-3
"""Largest relative difference that is rounding in float32; without a leak 0 to 1e-6 are seen, with
one 7e-3 (a tiny untrained BLOOM) and more."""

TOLERANCE_HALF = 5e-2
"""The same in half precision, mixed precision included."""


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

    Three examples are merged, the last the same as the first: so must their logits be.

    Args:
        model: Wrapped or not.
        head: Its output embeddings.
        collate: Merges examples into a batch on the model's device.
        token_ids: Tokens of the training data.
        device: Of the model.
        tolerance: Largest relative difference, in the Euclidean norm, that is rounding.
    """
    tokens = _different(token_ids)
    half = len(tokens) // 2
    example, other = tokens[: half + 1], tokens[half:]
    rows = [{"input_ids": ids, "labels": ids} for ids in (example, other, example)]
    batch = collate(rows)
    located = locate(batch)
    with undisturbed(model, device):
        logits, _ = supervised_logits(model, head, batch, located.positions)
    units = located.units.to(logits.device).index
    first, last = (logits[units == unit].float() for unit in (0, 2))
    difference = float((last - first).norm() / first.norm().clamp(min=torch.finfo().tiny))
    if not difference <= tolerance:
        raise ValueError(
            "padding_free=True and packing=True are not supported with this model and attention "
            "implementation: examples in one row see each other or are not placed anew (the same "
            f"example's logits differ by {difference:.2g} of their size when it comes last); use "
            "neither, or another attn_implementation"
        )


def _different(token_ids: Iterable[int]) -> list[int]:
    """The first different tokens, at least two."""
    found: dict[int, None] = {}
    for token in token_ids:
        found[token] = None
        if len(found) == N_TOKENS:
            break
    return list(found) if len(found) > 1 else [*found, *found]
