"""The loss of a batch: fused where the model's head allows it, else the readable reference.

Both read the same tokens and give the same numbers; the fused one never holds the logits of more
than a tile.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from transformers import PreTrainedModel

from cogcalib.losses import (
    FusedParts,
    Gate,
    NllReduction,
    Penalty,
    TokenStatistics,
    fused_cogcalib_loss,
    fused_statistics,
    reference_loss,
    token_statistics,
)
from cogcalib.training.head import add_head_access, verify_head
from cogcalib.training.logs import get_logger
from cogcalib.training.supervised_logits import supervised_logits
from cogcalib.training.supervision import SupervisedTokens

logger = get_logger(__name__)
PLAIN = Penalty("label_smoothing")
"""The cheapest penalty, for where none is added: it asks for no options."""


class LossRunner:
    """Takes batches through a model: their loss, and what it says at their supervised tokens.

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
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        tokens: SupervisedTokens,
        *,
        penalty: Penalty,
        alpha: float,
        gate: Gate,
        num_items_in_batch: Tensor | int | None,
        nll_reduction: NllReduction,
    ) -> tuple[FusedParts, Tensor | None]:
        """The loss of a batch and the load-balancing loss of a mixture of experts, if any.

        Args:
            model: The model, wrapped or not.
            inputs: The batch; ``labels`` are left out.
            tokens: Its supervised tokens.
            penalty: See `cogcalib.losses.fused_cogcalib_loss`, as for all that follow.
        """
        objective: dict[str, Any] = {
            "targets": tokens.targets,
            "example": tokens.units.index,
            "n_examples": len(tokens.units),
            "option_ids": tokens.options,
            "penalty": penalty,
            "alpha": alpha,
            "gate": gate,
            "num_items_in_batch": num_items_in_batch,
            "nll_reduction": nll_reduction,
        }
        arguments = {name: value for name, value in inputs.items() if name != "labels"}
        if self._is_fused(model):
            fused = partial(fused_cogcalib_loss, **objective)
            output = model(**arguments, at_head=fused, head_positions=tokens.positions)
            return output.result, output.aux_loss
        head = self._model.get_output_embeddings()
        logits, aux_loss = supervised_logits(model, head, inputs, tokens.positions)
        return reference_loss(logits, **objective), aux_loss

    def statistics(
        self, model: nn.Module, inputs: Mapping[str, Any], tokens: SupervisedTokens
    ) -> TokenStatistics:
        """What the model says at the supervised tokens, without gradient; arguments as in `loss`.

        ``option_scores`` are those of the options at the token where they compete.
        """
        arguments = {name: value for name, value in inputs.items() if name != "labels"}
        if self._is_fused(model):
            found = partial(fused_statistics, targets=tokens.targets, option_ids=tokens.options)
            output = model(**arguments, at_head=found, head_positions=tokens.positions)
            statistics: TokenStatistics = output.result
            return statistics
        head = self._model.get_output_embeddings()
        logits, _ = supervised_logits(model, head, inputs, tokens.positions)
        tokens = tokens.to(logits.device)
        return token_statistics(logits, tokens.targets, tokens.options)

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
