"""Logits at the supervised positions only, by the model's own forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def supervised_logits(
    model: nn.Module, head: nn.Module, inputs: Mapping[str, Any], positions: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Run the model and keep its logits at some positions.

    The model's own forward does the work, so that whatever an architecture does to its logits
    applies; its head merely gets to see the wanted positions, since with short answers the logits
    of the prompt would take most of the memory.

    Args:
        model: The model, wrapped for distributed training or not.
        head: Its output embeddings.
        inputs: A batch; ``labels`` are left out.
        positions: Which positions, ``[R, T]`` bool.

    Returns:
        Logits, ``[N, V]``, and the load-balancing loss of a mixture of experts, or None.
    """
    arguments = {name: value for name, value in inputs.items() if name != "labels"}
    with _only_at(head, positions):
        outputs = model(**arguments, use_cache=False)
    logits = outputs.logits
    if logits.shape[:2] == positions.shape:  # the model applied its head's weight by hand
        logits = logits[positions.to(logits.device)]
    else:
        logits = logits.squeeze(0)
    return logits, getattr(outputs, "aux_loss", None)


@contextmanager
def _only_at(head: nn.Module, positions: Tensor) -> Iterator[None]:
    """Let `head` see ``hidden[positions]`` as one row, ``[1, N, H]``."""

    def keep(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, *others = arguments
        return (hidden[positions.to(hidden.device)].unsqueeze(0), *others)

    handle = head.register_forward_pre_hook(keep)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def undisturbed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Eval mode without gradients; flags and random numbers are as before afterwards."""
    in_training = [module for module in model.modules() if module.training]
    devices = [device] if device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices):
        model.eval()
        try:
            yield
        finally:
            for module in in_training:
                module.training = True
