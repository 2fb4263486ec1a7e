"""The head of a causal language model, read as the linear map a fused loss computes by itself.

``z = cap(scale * (h W^T + u A^T + b))``: weight and bias are the head's, scale and softcap what the
model does to the logits afterwards, u and A a LoRA adapter on the head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.trainable_tokens import TrainableTokensLayer
from peft.utils.other import ModulesToSaveWrapper, TrainableTokensWrapper
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from cogcalib.losses.projection import LinearHead
from cogcalib.modeling.final_logits import logit_scale_and_softcap


class UnfusableHead(ValueError):
    """The head does something a fused loss cannot compute; the message says what."""


@dataclass(frozen=True, slots=True)
class HeadParts:
    """The modules a head is made of.

    Attributes:
        owners: From the head itself inwards, each module that has to be called for the weights to
            be there, since FSDP and ZeRO gather them in a module's hooks.
        linear: The layer with weight and bias.
        lora: The adapter layer around it, or None.
        adapter: Name of the adapter in `lora`.
        tokens: The layer that replaces single rows of the weight, or None.
    """

    owners: tuple[nn.Module, ...]
    linear: nn.Linear
    lora: LoraLinear | None = None
    adapter: str = ""
    tokens: TrainableTokensLayer | None = None


def head_parts(head: nn.Module | None) -> HeadParts:
    """Take a head apart.

    Args:
        head: The output embeddings of a model, wrapped by PEFT or not.

    Raises:
        UnfusableHead: For anything but a linear layer, plain LoRA with one active adapter on one,
            a copy of one that PEFT trains (``modules_to_save``), or trainable token rows.
    """
    if isinstance(head, ModulesToSaveWrapper):
        active = head.active_adapters
        enabled = bool(active) and not head.disable_adapters
        inner = head.modules_to_save[active[0]] if enabled else head.original_module
        return HeadParts((head, inner), _plain(inner))
    if isinstance(head, TrainableTokensWrapper):
        return _token_parts(head.token_adapter, (head,))
    if isinstance(head, TrainableTokensLayer):
        return _token_parts(head)
    if isinstance(head, LoraLinear):
        return _lora_parts(head)
    linear = _plain(head)
    return HeadParts((linear,), linear)


def linear_head(model: PreTrainedModel, hidden: Tensor) -> LinearHead:
    """The head of `model` as tensors, differentiable, in the dtypes the model holds them in.

    To be called where the weights are gathered: inside the head's forward (`call_inside`).

    Args:
        model: A causal language model, not a PEFT wrapper around one.
        hidden: What enters the head, ``[N, H]``; a LoRA adapter on the head depends on it, its
            dropout included.

    Raises:
        UnfusableHead: See `head_parts`; also for weights that are not whole on this device.
    """
    parts = head_parts(model.get_output_embeddings())
    weight: Tensor = parts.linear.weight
    if parts.tokens is not None:
        weight = parts.tokens.get_merged_weights(parts.tokens.active_adapters)
    scale, softcap = logit_scale_and_softcap(model.config)
    low_rank_input = low_rank_weight = None
    if parts.lora is not None:
        low_rank_input, low_rank_weight = _low_rank(parts.lora, parts.adapter, hidden)
    return LinearHead(
        weight=_whole(weight),
        bias=None if parts.linear.bias is None else _whole(parts.linear.bias),
        scale=scale,
        softcap=softcap,
        low_rank_input=low_rank_input,
        low_rank_weight=low_rank_weight,
    )


def call_inside(
    modules: Sequence[nn.Module], function: Callable[[Tensor], Any], hidden: Tensor
) -> Any:
    """Call `function` in place of the forward of the innermost module, all of them being called.

    So the hooks of each module run as in the model's own forward, before and after, in backward
    too: FSDP2 and ZeRO-3 gather and release its weights, activation offloading spares its input.

    Args:
        modules: From the outermost inwards.
        function: Takes what enters the innermost module.
        hidden: What enters the outermost module.
    """
    module, *inner = modules
    body = partial(call_inside, inner, function) if inner else function
    with ExitStack() as stack:
        if "forward" in vars(module):  # accelerate's hooks for models split over devices
            stack.callback(setattr, module, "forward", module.forward)
        else:
            stack.callback(delattr, module, "forward")
        module.forward = body
        return module(hidden)


def _plain(head: nn.Module | None) -> nn.Linear:
    # Quantised layers are subclasses of nn.Linear or hold subclasses of Parameter.
    kind = _kind(head)
    if kind is not nn.Linear:
        raise UnfusableHead(f"its head is a {kind.__name__}, not a plain linear layer")
    linear = cast(nn.Linear, head)
    if type(linear.weight) not in (nn.Parameter, Tensor, DTensor):
        raise UnfusableHead(f"its head's weight is a {type(linear.weight).__name__}")
    return linear


def _kind(module: object) -> type:
    """The class of a module; FSDP2 puts a class of its own in front of it."""
    return type(module).__mro__[2] if isinstance(module, FSDPModule) else type(module)


def _lora_parts(head: LoraLinear) -> HeadParts:
    linear = _plain(head.get_base_layer())
    active = [name for name in head.active_adapters if name in head.lora_A]
    if head.merged and head.disable_adapters:
        raise UnfusableHead("the adapter on its head is merged and disabled at once")
    if head.merged or head.disable_adapters or not active:
        return HeadParts((head, linear), linear)
    if len(active) > 1:
        raise UnfusableHead(f"its head has {len(active)} active adapters: {active}")
    (name,) = active
    if _kind(head) is not LoraLinear or name in head.lora_variant or head.fan_in_fan_out:
        raise UnfusableHead(f"the adapter {name!r} on its head is not plain LoRA")
    up = head.lora_B[name]
    if _kind(up) is not nn.Linear or up.bias is not None:
        raise UnfusableHead(f"the LoRA adapter {name!r} on its head has a bias or is not linear")
    return HeadParts((head, linear, up), linear, lora=head, adapter=name)


def _token_parts(layer: TrainableTokensLayer, outside: tuple[nn.Module, ...] = ()) -> HeadParts:
    linear = _plain(layer.base_layer)
    owners = (*outside, layer, linear)
    if layer.disable_adapters or layer.merged or not layer.active_adapters:
        return HeadParts(owners, linear)
    if len(layer.active_adapters) > 1 or linear.bias is not None:
        raise UnfusableHead("its head has trainable tokens of several adapters, or a bias as well")
    return HeadParts(owners, linear, tokens=layer)


def _low_rank(layer: LoraLinear, adapter: str, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """u = scaling * lora_A(dropout(h)), ``[N, R]``, and lora_B's weight, ``[V, R]``."""
    down, up = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    assert isinstance(down, Tensor)
    assert isinstance(up, Tensor)
    dropped = layer.lora_dropout[adapter](hidden.to(down.dtype))
    return layer.lora_A[adapter](dropped) * layer.scaling[adapter], _whole(up)


def _whole(tensor: Tensor) -> Tensor:
    if isinstance(tensor, DTensor) or tensor.is_meta or tensor.numel() == 0:
        raise UnfusableHead("the weights of its head are not whole on this device")
    return tensor
