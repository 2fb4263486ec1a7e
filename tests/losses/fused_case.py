"""Batches for the fused loss, and the reference it is judged by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cogcalib.losses import (
    FusedParts,
    Gate,
    LinearHead,
    LossParts,
    Penalty,
    cogcalib_loss,
    cross_entropy,
    example_nll,
    fused_cogcalib_loss,
    token_penalty,
)

PENALTIES = [
    Penalty("label_smoothing"),
    Penalty("margin", margin=0.5),
    Penalty("margin", margin=0.0, margin_reduction="sum"),
    Penalty("entropy"),
    Penalty("entropy", entropy_floor=1.9),
    Penalty("focal"),
    Penalty("focal", gamma=1.5),
]
PENALTIES += [replace(penalty, support="options") for penalty in PENALTIES]
PARTS = ("loss", "ce", "penalty", "nll", "weights")
HEADS = ["plain", "bias", "scale", "softcap", "low_rank", "everything"]
ROW = 8 * 37  # bytes of one row of float64 logits of the batch below
BUDGETS = {"one row": ROW, "three rows": 3 * ROW, "default": None}


@dataclass
class Case:
    """A batch whose examples have 2, 0, 5, 1, 0 and 3 tokens, at the third token no options."""

    hidden: Tensor
    head: LinearHead
    targets: Tensor
    example: Tensor
    n_examples: int
    option_ids: Tensor

    @property
    def tensors(self) -> dict[str, Tensor]:
        named = {
            "hidden": self.hidden,
            "weight": self.head.weight,
            "bias": self.head.bias,
            "low_rank_input": self.head.low_rank_input,
            "low_rank_weight": self.head.low_rank_weight,
        }
        return {name: tensor for name, tensor in named.items() if tensor is not None}


def make_case(
    head: str = "everything",
    counts: tuple[int, ...] = (2, 0, 5, 1, 0, 3),
    width: int = 7,
    vocabulary: int = 37,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Case:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        values = torch.randn(*shape, generator=generator, dtype=torch.float64)
        return values.to(dtype).requires_grad_()

    def has(part: str) -> bool:
        return head in (part, "everything")

    n = sum(counts)
    ids = torch.stack(
        [torch.randperm(vocabulary, generator=generator)[:4] for _ in range(n)]
        or [torch.zeros(4, dtype=torch.long)]
    )[:n]
    ids[2::4] = -1
    ids[1::3, 3] = -1
    targets = torch.randint(vocabulary, (n,), generator=generator)
    # Where options compete one of them is the target, as the data are checked for.
    first = ids[:, 0]
    targets = torch.where(first >= 0, first, targets)
    return Case(
        hidden=draw(n, width),
        head=LinearHead(
            weight=draw(vocabulary, width),
            bias=draw(vocabulary) if has("bias") else None,
            scale=0.7 if has("scale") else 1.0,
            softcap=2.5 if has("softcap") else None,
            low_rank_input=draw(n, 3) if has("low_rank") else None,
            low_rank_weight=draw(vocabulary, 3) if has("low_rank") else None,
        ),
        targets=targets,
        example=torch.repeat_interleave(torch.tensor(counts, dtype=torch.long)),
        n_examples=len(counts),
        option_ids=ids,
    )


def reference_logits(hidden: Tensor, head: LinearHead) -> Tensor:
    logits = F.linear(hidden, head.weight, head.bias)
    if head.low_rank_input is not None and head.low_rank_weight is not None:
        logits = logits + head.low_rank_input @ head.low_rank_weight.T
    logits = logits * head.scale
    return logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)


def reference(case: Case, penalty: Penalty, gate: Gate, **more: Any) -> LossParts:
    logits = reference_logits(case.hidden, case.head)
    return cogcalib_loss(
        cross_entropy(logits, case.targets),
        token_penalty(penalty, logits, case.targets, case.option_ids),
        case.example,
        case.n_examples,
        gate=gate,
        **more,
    )


def fused(case: Case, penalty: Penalty, gate: Gate, **more: Any) -> FusedParts:
    return fused_cogcalib_loss(
        case.hidden,
        case.head,
        case.targets,
        case.example,
        case.n_examples,
        penalty=penalty,
        gate=gate,
        option_ids=case.option_ids,
        **more,
    )


def some_open(case: Case) -> Gate:
    """The method's gate with a threshold between the examples' NLLs."""
    with torch.no_grad():
        ce = cross_entropy(reference_logits(case.hidden, case.head), case.targets)
    nll = example_nll(ce, case.example, case.n_examples)
    present = nll[torch.bincount(case.example, minlength=case.n_examples) > 0].sort().values
    # between two of them: on one of them, rounding would decide
    threshold = float(present[(len(present) - 1) // 2 :][:2].mean()) if len(present) > 1 else 0.0
    return Gate("nll", threshold)


OPEN = Gate("all")
SOFT = Gate("soft", 4.0, 1.5)


def gradients(case: Case, loss: Tensor) -> dict[str, Tensor]:
    names = list(case.tensors)
    return dict(
        zip(names, torch.autograd.grad(loss, [case.tensors[n] for n in names]), strict=True)
    )


def assert_same(case: Case, ours: FusedParts, theirs: LossParts, **tolerance: float) -> None:
    tolerance = tolerance or {"rtol": 1e-10, "atol": 1e-12}
    for field in PARTS:
        actual, expected = getattr(ours, field), getattr(theirs, field)
        torch.testing.assert_close(
            actual, expected, **tolerance, msg=partial(f"{field}: {{}}".format)
        )
    expected_gradients = gradients(case, theirs.loss)
    for name, actual in gradients(case, ours.loss).items():
        torch.testing.assert_close(
            actual, expected_gradients[name], **tolerance, msg=partial(f"{name}: {{}}".format)
        )
