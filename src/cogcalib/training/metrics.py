"""What is logged of a micro-batch: sums that add up over ranks, and the means made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from accelerate import Accelerator
from torch import Tensor

from cogcalib.losses import FusedParts
from cogcalib.records import Threshold


@torch.no_grad()
def batch_sums(parts: FusedParts, num_items_in_batch: Tensor | int | None) -> dict[str, Tensor]:
    """Sums over the supervised tokens and the units of one micro-batch on one rank.

    Args:
        parts: The loss of its supervised tokens.
        num_items_in_batch: The denominator of the loss, None: the supervised tokens.
    """
    count = parts.ce.new_tensor(len(parts.token_ce))
    items = torch.as_tensor(count if num_items_in_batch is None else num_items_in_batch)
    items = items.to(count).clamp(min=1)
    return {
        "n_tokens": count,
        "entropy": parts.entropy.sum(),
        "mean_token_accuracy": parts.right.sum(),
        "ce": parts.ce * items,
        "penalty": parts.penalty * items,
        "n_units": count.new_tensor(len(parts.weights)),
        "gate_rate": parts.weights.sum(),
    }


def per_token_and_unit(sums: Mapping[str, float]) -> dict[str, float]:
    """Means of `batch_sums`: entropy, mean_token_accuracy, ce and penalty per supervised token,
    gate_rate per unit. Without a supervised token they are 0, as in TRL."""
    means = {
        name: sums[name] / max(sums["n_tokens"], 1)
        for name in ("entropy", "mean_token_accuracy", "ce", "penalty")
    }
    return {**means, "gate_rate": sums["gate_rate"] / max(sums["n_units"], 1)}


def sum_over_ranks(accelerator: Accelerator, *values: Tensor) -> Tensor:
    """Each scalar summed over all ranks, in double precision where the device has it."""
    dtype = torch.float32 if accelerator.device.type == "mps" else torch.float64
    local = torch.stack([value.detach().to(accelerator.device, dtype) for value in values])
    return accelerator.reduce(local, reduction="sum")


def input_tokens(inputs: Mapping[str, Tensor]) -> Tensor:
    """How many tokens a batch holds, as TRL counts them: filling is counted in one row only."""
    if "attention_mask" in inputs:
        return inputs["attention_mask"].sum()
    positions = inputs["position_ids"]
    return torch.tensor(positions.shape[1], device=positions.device)


def of_threshold(threshold: Threshold) -> dict[str, float]:
    """What is logged of the threshold in force.

    An infinite one is left out, since JSON and most trackers have no infinity;
    ``calibration_known``, the fraction of the calibration split labelled known, tells it then.
    """
    n = threshold.n_known + threshold.n_unknown
    known = {"separation": threshold.separation, "calibration_known": threshold.n_known / n}
    return {**known, "threshold": threshold.value} if math.isfinite(threshold.value) else known
