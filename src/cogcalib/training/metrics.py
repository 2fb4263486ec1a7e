"""Logged metrics of a micro-batch: sums that add up over ranks, and the means made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from accelerate import Accelerator
from torch import Tensor

from cogcalib.losses import FusedParts
from cogcalib.records import Threshold
from cogcalib.training.state import KnowledgeState


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
        "mean_token_accuracy": parts.correct.sum(),
        "ce": parts.ce * items,
        "penalty": parts.penalty * items,
        "n_units": count.new_tensor(len(parts.weights)),
        "gate_rate": parts.weights.sum(),
    }


def per_token(sums: Mapping[str, float]) -> dict[str, float]:
    """TRL's means of `batch_sums`: over the supervised tokens; without any 0, as there."""
    names = ("entropy", "mean_token_accuracy")
    return {name: sums[name] / max(sums["n_tokens"], 1) for name in names}


def of_method(
    sums: Mapping[str, float], knowledge: KnowledgeState, *, tuned: bool
) -> dict[str, float]:
    """What the penalty and its gate did in a micro-batch.

    Args:
        sums: Those of `batch_sums` over all ranks, and ``n_known``, as `Gate.count_known`.
        knowledge: The threshold in force and how it came about.
        tuned: Whether a controller sets alpha.

    Returns:
        ce and penalty per supervised token and gate_rate per unit; with a threshold in force also
        that and share_known, a fraction of the units; with a tuned alpha that and
        calibration_gap, mean confidence less accuracy, a fraction.
    """
    found = {name: sums[name] / max(sums["n_tokens"], 1) for name in ("ce", "penalty")}
    found["gate_rate"] = sums["gate_rate"] / max(sums["n_units"], 1)
    if knowledge.threshold is None:
        return found
    found |= of_threshold(knowledge.threshold)
    if tuned and knowledge.alpha_steps:
        latest = knowledge.alpha_steps[-1]
        found |= {"alpha": latest.alpha, "calibration_gap": latest.confidence - latest.accuracy}
    if sums["n_units"]:
        found["share_known"] = sums["n_known"] / sums["n_units"]
    return found


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
