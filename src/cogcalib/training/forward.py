"""One forward pass, projected on the vocabulary at the supervised positions only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cogcalib.losses import NO_OPTION
from cogcalib.training.supervision import Unit, Units, find_units


@dataclass(frozen=True, slots=True)
class Located:
    """Where a batch of R rows is supervised, at N tokens.

    Attributes:
        positions: Whose hidden state predicts a supervised token, ``[R, T]`` bool.
        targets: Those tokens, ``[N]``.
        units: What each token is part of: an example or a turn.
        options: Token ids of the options that compete at a token, -1 elsewhere, ``[N, K]``; None
            if the batch has none.
    """

    positions: Tensor
    targets: Tensor
    units: Units
    options: Tensor | None = None

    def n_options(self) -> Tensor:
        """How many options compete in each unit, ``[U]``; 2, which is harmless, where none do."""
        counts = self.targets.new_full((len(self.units),), 2)
        if self.options is not None:
            here = (self.options != NO_OPTION).sum(1)
            counts.scatter_reduce_(0, self.units.index, here, "amax")
        return counts

    def to(self, device: torch.device) -> Located:
        """The same on `device`; the positions stay where the inputs are."""
        options = None if self.options is None else self.options.to(device)
        return Located(self.positions, self.targets.to(device), self.units.to(device), options)


def locate(
    inputs: Mapping[str, Any], unit: Unit = "example", option_ids: Tensor | None = None
) -> Located:
    """Find the supervised tokens of a batch.

    Args:
        inputs: A batch with ``labels``; position *t* predicts the label of position *t + 1*. An
            example per row and an ``attention_mask``, or ``position_ids`` that start anew with
            each of the examples in one row, and no mask.
        unit: What is judged as one.
        option_ids: Of the examples, ``[E, K]``, filled up with -1; or None.
    """
    labels = inputs["labels"]
    merged = "attention_mask" not in inputs
    predicted, units = find_units(labels, inputs.get("position_ids") if merged else None, unit)
    options = None if option_ids is None else units.options_at_first(option_ids)
    # Rolled by one: the first label of a row is never predicted.
    return Located(predicted.roll(-1, dims=1), labels[predicted], units, options)


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
