"""Tiny models of many architectures, and the two ways to their logits that must agree."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from cogcalib.losses import LinearHead
from cogcalib.training.head import AtHead

TINY = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.1,
}


def tiny_model(name: str = "Llama", **fields: Any) -> Any:
    """A random causal language model of the architecture, in training mode, without dropout."""
    config_class = getattr(transformers, fields.pop("config_class", f"{name}Config"))
    config = config_class(**{**TINY, **fields})
    torch.manual_seed(0)
    heads = (f"{name}ForCausalLM", f"{name}LMHeadModel")
    model = next(getattr(transformers, head) for head in heads if hasattr(transformers, head))(
        config
    )
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.train()


def batch(rows: int = 2, length: int = 7, seed: int = 0) -> dict[str, Tensor]:
    """Random tokens, the last row padded on the right, and labels for the last three tokens."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 64, (rows, length), generator=generator)
    attention_mask = torch.ones_like(ids)
    attention_mask[-1, -2:] = 0
    labels = torch.where(torch.arange(length) >= length - 4, ids, -100)
    labels[attention_mask == 0] = -100
    return {"input_ids": ids, "attention_mask": attention_mask, "labels": labels}


def head_logits(hidden: Tensor, head: LinearHead) -> Tensor:
    """z = cap(scale * (h W^T + u A^T + b)), spelt out."""
    logits = F.linear(hidden, head.weight, head.bias)
    if head.low_rank_input is not None:
        logits = logits + (head.low_rank_input @ head.low_rank_weight.T).to(logits.dtype)
    logits = head.scale * logits
    return logits if head.softcap is None else head.softcap * torch.tanh(logits / head.softcap)


def own_way(model: nn.Module, inputs: dict[str, Tensor], **others: Any) -> AtHead:
    """The logits the model's own forward gives at the supervised positions, and its aux loss."""
    ids, mask, targets = _split(inputs)
    outputs = model(**ids, use_cache=False, **others)
    logits = outputs.logits[mask]
    return AtHead((logits, _cross_entropy(logits, targets)), getattr(outputs, "aux_loss", None))


def our_way(model: nn.Module, inputs: dict[str, Tensor], **others: Any) -> AtHead:
    """The same through the door."""
    ids, mask, targets = _split(inputs)

    def loss(hidden: Tensor, head: LinearHead) -> tuple[Tensor, Tensor]:
        logits = head_logits(hidden, head)
        return logits, _cross_entropy(logits, targets)

    return model(**ids, at_head=loss, head_positions=mask, **others)


def assert_both_ways_agree(
    model: nn.Module, inputs: dict[str, Tensor], tolerance: float = 1e-5, **others: Any
) -> dict[str, Tensor]:
    """Logits, aux loss and the gradient of every parameter; returns the gradients."""
    own, own_gradients = _run(own_way, model, inputs, others)
    ours, our_gradients = _run(our_way, model, inputs, others)
    close = {"rtol": tolerance, "atol": tolerance}
    torch.testing.assert_close(ours.result[0], own.result[0], **close)
    torch.testing.assert_close(ours.aux_loss, own.aux_loss, **close)
    assert our_gradients.keys() == own_gradients.keys()
    for name, gradient in own_gradients.items():
        torch.testing.assert_close(
            our_gradients[name], gradient, **close, msg=lambda m, n=name: f"{n}: {m}"
        )
    return our_gradients


def _run(way: Any, model: nn.Module, inputs: Any, others: Any) -> tuple[AtHead, dict[str, Tensor]]:
    model.zero_grad(set_to_none=True)
    answer = way(model, inputs, **others)
    loss = answer.result[1]
    (loss if answer.aux_loss is None else loss + 0.1 * answer.aux_loss).backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    assert gradients
    return answer, gradients


def _split(inputs: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    labels = inputs["labels"]
    mask = torch.zeros_like(labels, dtype=torch.bool)
    mask[:, :-1] = labels[:, 1:] != -100
    ids = {name: value for name, value in inputs.items() if name != "labels"}
    return ids, mask, labels[:, 1:][mask[:, :-1]]


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), targets, reduction="sum")
