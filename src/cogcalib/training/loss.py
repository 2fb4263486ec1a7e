"""The loss of a batch: fused where the model's head allows it, else the readable reference.

Both read the same tokens and give the same numbers; the fused one never holds the logits of more
than a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from accelerate.utils import gather_object
from torch import Tensor, nn
from transformers import PreTrainedModel

from cogcalib.losses import (
    FusedParts,
    LinearHead,
    NllReduction,
    Penalty,
    TokenStatistics,
    cogcalib_loss,
    cross_entropy,
    fused_cogcalib_loss,
    fused_statistics,
    token_penalty,
    token_statistics,
)
from cogcalib.training.forward import Located, supervised_logits
from cogcalib.training.head import add_head_access, verify_head

logger = get_logger(__name__)
Gate = Callable[[Tensor, slice], Tensor]
PLAIN = Penalty("label_smoothing")
"""The cheapest penalty, for where none is added: it asks for no options."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What is minimised over a micro-batch; see `cogcalib.losses.fused_cogcalib_loss`."""

    penalty: Penalty
    alpha: float
    gate: Gate
    num_items_in_batch: Tensor | int | None
    nll_reduction: NllReduction


class Reader:
    """Takes batches through a model and reads its supervised tokens.

    Args:
        model: The model before it is wrapped for distributed training; its forward is given
            access to the head.
        accelerator: Of the training.
        compiled: Whether the model will be compiled, which the readable path does not survive.

    Attributes:
        fused: Whether the logits stay tiles; None before the first batch, with which the head is
            tried.
    """

    def __init__(self, model: PreTrainedModel, accelerator: Accelerator, *, compiled: bool) -> None:
        add_head_access(model)
        self._model, self._accelerator, self._compiled = model, accelerator, compiled
        self.fused: bool | None = None

    def loss(
        self, model: nn.Module, inputs: Mapping[str, Any], located: Located, objective: Objective
    ) -> tuple[FusedParts, Tensor | None]:
        """The loss of a batch and the load-balancing loss of a mixture of experts, if any.

        Args:
            model: The model, wrapped or not.
            inputs: The batch; ``labels`` are left out.
            located: Its supervised tokens.
            objective: What is minimised.
        """
        if self._is_fused(model):
            of_batch = partial(_fused_loss, located=located, objective=objective)
            return self._at_head(model, inputs, located, of_batch)
        logits, aux_loss = self._logits(model, inputs, located)
        return _readable_loss(logits, located.to(logits.device), objective), aux_loss

    def statistics(
        self, model: nn.Module, inputs: Mapping[str, Any], located: Located
    ) -> TokenStatistics:
        """What the model says at the supervised tokens, without gradient; arguments as in `loss`.

        ``option_scores`` are those of the options at the token where they compete.
        """
        if self._is_fused(model):
            of_batch = partial(_fused_statistics, located=located)
            return self._at_head(model, inputs, located, of_batch)[0]
        logits, _ = self._logits(model, inputs, located)
        located = located.to(logits.device)
        return token_statistics(logits, located.targets, located.options)

    def _logits(
        self, model: nn.Module, inputs: Mapping[str, Any], located: Located
    ) -> tuple[Tensor, Tensor | None]:
        head = self._model.get_output_embeddings()
        return supervised_logits(model, head, inputs, located.positions)

    def _at_head(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        located: Located,
        function: Callable[[Tensor, LinearHead], Any],
    ) -> tuple[Any, Tensor | None]:
        arguments = {name: value for name, value in inputs.items() if name != "labels"}
        output = model(**arguments, at_head=function, head_positions=located.positions)
        return output.result, output.aux_loss

    def _is_fused(self, model: nn.Module) -> bool:
        """Try the head with the first batch: by then the weights are where they will be."""
        if self.fused is None:
            found = verify_head(model, self._accelerator.device)
            # All ranks take one path: sharded weights are gathered by all together.
            reason = next(filter(None, gather_object([found])), None)
            if reason is not None and self._compiled:
                raise ValueError(
                    f"torch_compile=True is not supported with this model: {reason}, so its logits "
                    "have to be taken from a hook, which a compiled forward does not call"
                )
            if reason is not None:
                logger.warning(
                    "The logits of all supervised tokens are held at once, which takes more memory "
                    "than the fused loss, because of the model's head: %s.",
                    reason,
                )
            self.fused = reason is None
        return self.fused


def _fused_loss(
    hidden: Tensor, head: LinearHead, *, located: Located, objective: Objective
) -> FusedParts:
    located = located.to(hidden.device)
    return fused_cogcalib_loss(
        hidden,
        head,
        located.targets,
        located.units.index,
        len(located.units),
        penalty=objective.penalty,
        alpha=objective.alpha,
        gate=objective.gate,
        option_ids=located.options,
        num_items_in_batch=objective.num_items_in_batch,
        nll_reduction=objective.nll_reduction,
    )


def _fused_statistics(hidden: Tensor, head: LinearHead, *, located: Located) -> TokenStatistics:
    located = located.to(hidden.device)
    return fused_statistics(hidden, head, located.targets, located.options)


def _readable_loss(logits: Tensor, located: Located, objective: Objective) -> FusedParts:
    ce = cross_entropy(logits, located.targets)
    penalty = token_penalty(objective.penalty, logits, located.targets, located.options)
    parts = cogcalib_loss(
        ce,
        penalty,
        located.units.index,
        len(located.units),
        alpha=objective.alpha,
        gate=lambda nll: objective.gate(nll, slice(0, len(nll))),
        num_items_in_batch=objective.num_items_in_batch,
        nll_reduction=objective.nll_reduction,
    )
    with torch.no_grad():
        found = token_statistics(logits, located.targets, located.options)
    tokens = (found.ce, found.entropy, found.right, found.log_confidence, penalty.detach())
    return FusedParts(parts.loss, parts.ce, parts.penalty, parts.nll, parts.weights, *tokens)
