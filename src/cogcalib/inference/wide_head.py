"""The output layer of a half-precision model in float32: its logits are not rounded to a half."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cogcalib.losses.projection import HALVES, product_into, sums_wide

COLUMNS = 8192
"""Width of the slices in which weights are converted where products of halves cannot be summed up
in float32: of 4,096 wide hidden states 134 MB."""


@contextmanager
def wide_head(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the model's logits are float32 as products of halves sum up to.

    A half has three digits: of the logits of two options that are close, the lower may come out
    first. Nothing changes for a model in float32, nor for an output layer that is no plain linear
    one of ours to replace: with an adapter of its own, quantised, or moved by hooks.
    """
    head: Any = getattr(model, "get_output_embeddings", lambda: None)()
    plain = type(head) is torch.nn.Linear and "forward" not in head.__dict__
    if not plain or head.weight.dtype not in HALVES:
        yield
        return
    head.forward = lambda hidden: _product(hidden, head.weight, head.bias)
    try:
        yield
    finally:
        del head.forward


def _product(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if torch.is_grad_enabled():  # Laplace differentiates the logits
        wide = bias if bias is None else bias.float()
        return torch.nn.functional.linear(hidden.float(), weight.float(), wide)
    rows = hidden.reshape(-1, hidden.shape[-1])
    out = torch.empty(len(rows), len(weight), dtype=torch.float32, device=rows.device)
    if rows.dtype == weight.dtype and sums_wide(rows.device, rows.dtype):
        product_into(out, rows, weight.t())
    else:
        wide = rows.float()
        for start in range(0, len(weight), COLUMNS):
            part = weight[start : start + COLUMNS].float()
            torch.mm(wide, part.t(), out=out[:, start : start + COLUMNS])
    if bias is not None:
        out += bias
    return out.unflatten(0, hidden.shape[:-1])
