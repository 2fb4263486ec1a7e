"""The door between any causal language model and a loss that computes the logits by itself.

A fused loss takes hidden states and the head's weight. Both exist only inside the model's own
forward, where autocast, DDP, FSDP2, ZeRO-3 and activation offloading have done their work. So the
loss is handed in: ``model(**inputs, at_head=loss, head_positions=mask)``.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeAlias, cast

import torch
import torch.nn.functional as F
from accelerate.utils import extract_model_from_parallel
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from cogcalib.losses.projection import LinearHead
from cogcalib.training.linear_head import UnfusableHead, call_inside, head_parts, linear_head

HeadFunction: TypeAlias = Callable[[Tensor, LinearHead], Any]
"""Takes hidden states ``[N, H]`` and the head; returns a tensor or a (named) tuple of tensors."""


class AtHead(NamedTuple):
    """What a model returns when it is called with ``at_head``.

    Attributes:
        result: What the function returned.
        aux_loss: Load-balancing loss of a mixture of experts, unweighted, or None.
    """

    result: Any
    aux_loss: Tensor | None


def add_head_access(model: nn.Module) -> None:
    """Let `model` hand its hidden states and its head to a function, inside its own forward.

    Afterwards ``model(**inputs, at_head=function, head_positions=mask)`` runs the backbone, keeps
    the N hidden states where the mask ``[B, T]`` is true and returns `AtHead` with
    ``function(hidden [N, H], head)``, the logits never being computed. Position *t* predicts the
    token *t + 1*; labels are the caller's business. Without ``at_head`` the forward is the one
    there was, TRL's patch included.

    The function runs under the autocast the model runs under, and where that is off gets hidden
    states in the weight's dtype: so the dtype of the model's own matrix product is
    ``torch.get_autocast_dtype`` or the weight's. It runs outside of what `torch.compile` compiles.
    What it returns must carry the gradient; with N = 0 a sum over the hidden states still does.

    Args:
        model: A causal language model or a PEFT model around one, before it is wrapped for
            distributed training.
    """
    base = _base(model)
    original = base.forward

    @functools.wraps(type(base).forward)  # `generate` checks its arguments against the signature
    def forward(
        self: PreTrainedModel,
        *args: Any,
        at_head: HeadFunction | None = None,
        head_positions: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        if at_head is None:
            return original(*args, **kwargs)
        if head_positions is None or kwargs.get("labels") is not None:
            raise ValueError("at_head needs head_positions and takes no labels")
        if getattr(self.config.get_text_config(), "output_router_logits", False):
            kwargs.setdefault("output_router_logits", True)
        outputs = _backbone(self)(*args, **{**kwargs, "use_cache": False, "return_dict": True})
        return _at_head(self, at_head, head_positions, outputs, kwargs)

    # This frame alone stays in Python, else each new `at_head` would compile the model again; the
    # forwards it calls are compiled.
    base.forward = types.MethodType(torch.compiler.disable(forward, recursive=False), base)


def verify_head(model: nn.Module, device: torch.device | None = None) -> str | None:
    """Why the hidden states and the head do not give the model's own logits; None: they do.

    Nothing is taken on trust: a scale under a new name, a hook on the head, a head that is no
    linear map would train something else. A dozen tokens go through the model's own forward and
    through `linear_head`, in eval mode, without gradient; the random state is left as it was. Also
    compared: the load-balancing loss.

    On several processes every rank must call it, once the weights are on their device, hence after
    the model is wrapped: a meta or ZeRO-3-partitioned model cannot run without its wrapper.

    Args:
        model: A model after `add_head_access`, wrapped or not.
        device: Where the inputs go; None: where the weights are.
    """
    base = _base(model)
    try:
        head_parts(base.get_output_embeddings())
        with _silently(model, base, device or base.device) as inputs:
            return _compare(model, base, inputs)
    except UnfusableHead as reason:
        return str(reason)


def _base(model: nn.Module) -> PreTrainedModel:
    inner = extract_model_from_parallel(model)
    base = inner.get_base_model() if isinstance(inner, PeftModel) else inner
    return cast(PreTrainedModel, base)


def _backbone(model: PreTrainedModel) -> nn.Module:
    # Llama 4 misnames its backbone, and `base_model` is then the model itself.
    backbone = model.base_model if model.base_model is not model else getattr(model, "model", None)
    if backbone is None:
        raise UnfusableHead("it has no backbone apart from its head")
    return backbone


@torch.compiler.disable
def _at_head(
    model: PreTrainedModel,
    function: HeadFunction,
    positions: Tensor,
    outputs: Mapping[str, Any],
    kwargs: dict[str, Any],
) -> AtHead:
    states: Tensor = outputs["last_hidden_state"]
    if states.shape[:2] != positions.shape:
        raise UnfusableHead(
            f"its backbone returns states of shape {list(states.shape)} for positions of shape "
            f"{list(positions.shape)}"
        )
    parts = head_parts(model.get_output_embeddings())
    hidden = states[positions.to(states.device)].to(parts.linear.weight.device)
    result = call_inside(parts.owners, partial(_hand_over, model, function), hidden)
    return AtHead(result, _aux_loss(model, outputs, kwargs))


def _hand_over(model: PreTrainedModel, function: HeadFunction, hidden: Tensor) -> Any:
    head = linear_head(model, hidden)
    if not torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(head.weight.dtype)  # as Mamba does
    return function(hidden, head)


def _aux_loss(
    model: PreTrainedModel, outputs: Mapping[str, Any], kwargs: Mapping[str, Any]
) -> Tensor | None:
    """As the model's own forward computes it: every family of transformers has Mixtral's."""
    if not kwargs.get("output_router_logits"):
        return None
    config = model.config.get_text_config()
    # The configuration of some families calls the experts by another name, the model of none.
    experts = getattr(model, "num_experts", None) or getattr(config, "num_experts", None)
    if experts is None:
        return None
    routers = outputs.get("router_logits")
    if not routers or any(router.shape[-1] != experts for router in routers):
        raise UnfusableHead("its routers do not return one logit per expert")
    top_k = getattr(model, "num_experts_per_tok", None) or config.num_experts_per_tok
    loss = load_balancing_loss_func(routers, experts, top_k, kwargs.get("attention_mask"))
    return cast(Tensor, loss)  # an int only without routers


@contextmanager
def _silently(
    model: nn.Module, base: PreTrainedModel, device: torch.device
) -> Iterator[dict[str, Tensor]]:
    """Two short sequences, and everything left as it was: modes, random state, compiled code."""
    size = base.config.get_text_config().vocab_size
    ids = (torch.arange(12, device=device) * 7 + 1).remainder(size).view(2, 6)
    modes = [(module, module.training) for module in model.modules()]
    devices = [] if device.type == "cpu" else [device]
    kind = "cuda" if device.type == "cpu" else device.type
    with (
        torch.no_grad(),
        torch.random.fork_rng(devices, device_type=kind),
        torch.compiler.set_stance("force_eager"),
    ):
        model.eval()
        try:
            yield {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        finally:
            for module, training in modes:
                module.training = training


def _compare(model: nn.Module, base: PreTrainedModel, inputs: dict[str, Tensor]) -> str | None:
    if hasattr(base.config.get_text_config(), "output_router_logits"):
        inputs = {**inputs, "output_router_logits": True}  # type: ignore[dict-item]
    own = model(**inputs, use_cache=False)
    mask = torch.ones_like(inputs["input_ids"], dtype=torch.bool)
    mask[0, 0] = mask[1, 3] = False
    logits: list[Tensor] = []  # not by return: a hook on the head could change what is returned

    def keep(hidden: Tensor, head: LinearHead) -> Tensor:
        logits.append(_logits(hidden, head))
        return logits[0].sum()

    ours = model(**inputs, at_head=keep, head_positions=mask)
    expected = own.logits[mask.to(own.logits.device)]
    if logits[0].shape != expected.shape:
        return (
            f"its logits have the shape {list(expected.shape)}, its head gives "
            f"{list(logits[0].shape)}"
        )
    if not _close(logits[0], expected):
        return "its logits are not those of its hidden states and its head"
    aux_losses = [
        loss for loss in (ours.aux_loss, getattr(own, "aux_loss", None)) if loss is not None
    ]
    if len(aux_losses) == 1 or (aux_losses and not _close(*aux_losses)):
        return "its load-balancing loss is computed in a way of its own"
    return None


def _logits(hidden: Tensor, head: LinearHead) -> Tensor:
    logits = F.linear(hidden, head.weight, head.bias)
    if head.low_rank_input is not None and head.low_rank_weight is not None:
        logits = logits + F.linear(head.low_rank_input, head.low_rank_weight).to(logits.dtype)
    logits = head.scale * logits
    return logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)


def _close(ours: Tensor, own: Tensor) -> bool:
    """Equal within a few roundings of the dtype of the head, relative to the largest logit."""
    tolerance = max(1e-4, 4 * torch.finfo(ours.dtype).eps) * own.abs().max()
    return bool((ours - own).abs().max() <= tolerance)
