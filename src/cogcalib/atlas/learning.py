"""Training a small model from scratch on documents of which the answer alone is supervised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from transformers import (
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from cogcalib.atlas.corpus import Document

ARCHITECTURES = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config}


@dataclass(frozen=True)
class Recipe:
    """How fast to train.

    Attributes:
        tokens: Of a batch of `batches`, padding not counted.
        muon_rate: Peak learning rate of the body's matrices.
        adam_rate: Peak learning rate of embeddings and norms.
        warmup: Share of all steps.
    """

    tokens: int = 4096
    muon_rate: float = 1e-2
    adam_rate: float = 3e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Size:
    """How large a model is; the default has about one million parameters.

    Attributes:
        width: Of the hidden states; the MLP is three times as wide.
        layers: How many.
        heads: Of the attention.
    """

    width: int = 128
    layers: int = 4
    heads: int = 4


def model_config(
    arch: str, tokenizer: PreTrainedTokenizerFast, size: Size | None = None
) -> PreTrainedConfig:
    """A model of the given architecture and size."""
    size = size or Size()
    return ARCHITECTURES[arch](
        vocab_size=len(tokenizer),
        hidden_size=size.width,
        intermediate_size=3 * size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads if arch == "llama" else size.heads // 2,
        max_position_embeddings=512,
        initializer_range=0.04,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


@dataclass(frozen=True)
class TokenIds:
    """Token ids of a document; positions from `start` on are supervised."""

    ids: list[int]
    start: int


def encode_corpus(
    documents: Sequence[Document], tokenizer: PreTrainedTokenizerFast
) -> list[TokenIds]:
    """Tokenise documents: ``<s>`` prompt completion ``</s>``."""
    prompts = tokenizer([d.prompt for d in documents])["input_ids"]
    completions = tokenizer([d.completion for d in documents], add_special_tokens=False)
    return [
        TokenIds([*prompt, *completion, tokenizer.eos_token_id], len(prompt))
        for prompt, completion in zip(prompts, completions["input_ids"], strict=True)
    ]


def batches(lengths: Sequence[int], tokens: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Indices of one pass: batches of about `tokens` tokens and of one length, in random order."""
    order = rng.permutation(len(lengths))
    order = order[np.argsort(np.asarray(lengths)[order], kind="stable")]
    cuts = np.cumsum(np.asarray(lengths)[order]) // tokens
    groups = np.split(order, np.flatnonzero(np.diff(cuts)) + 1)
    return [groups[i] for i in rng.permutation(len(groups))]


def batch_loss(model: PreTrainedModel, documents: Sequence[TokenIds], pad: int) -> torch.Tensor:
    """Mean cross-entropy over the supervised tokens; only those are projected on the vocabulary."""
    ids = torch.tensor([token for document in documents for token in document.ids])
    lengths = torch.tensor([len(document.ids) for document in documents])
    starts = torch.tensor([document.start for document in documents])
    columns = torch.arange(int(lengths.max()))
    inside = columns < lengths[:, None]
    supervised = inside & (columns >= starts[:, None])
    ids = torch.full(inside.shape, pad).masked_scatter_(inside, ids)
    ids, supervised = ids.to(model.device), supervised.to(model.device)
    # Padding stands on the right, where causal attention never looks: no mask is needed.
    hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    logits = model.get_output_embeddings()(hidden[:, :-1][supervised[:, 1:]])
    return F.cross_entropy(logits, ids[:, 1:][supervised[:, 1:]])


def build_optimizers(model: PreTrainedModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the body, AdamW for embeddings, norms and biases."""
    body = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    chosen = {id(p) for p in body}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(body, lr=recipe.muon_rate, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(others, lr=recipe.adam_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def train(
    model: PreTrainedModel,
    plan: Sequence[Sequence[Sequence[TokenIds]]],
    recipe: Recipe,
    pad: int,
    description: str,
) -> None:
    """One step per item of `plan`, over the sum of the losses of its groups of like documents."""
    optimizers = build_optimizers(model, recipe)
    schedules = build_schedules(optimizers, recipe, len(plan))
    model.train()
    for groups in track(plan, description=description):
        step(model, groups, optimizers, schedules, pad)
    model.eval()


def build_schedules(
    optimizers: Sequence[torch.optim.Optimizer], recipe: Recipe, steps: int
) -> list[torch.optim.lr_scheduler.LRScheduler]:
    """One cycle over all steps for each optimizer."""
    return [
        torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=steps,
            pct_start=recipe.warmup,
            cycle_momentum=False,
        )
        for optimizer in optimizers
    ]


def step(
    model: PreTrainedModel,
    groups: Sequence[Sequence[TokenIds]],
    optimizers: Sequence[torch.optim.Optimizer],
    schedules: Sequence[torch.optim.lr_scheduler.LRScheduler],
    pad: int,
) -> torch.Tensor:
    """One step over the sum of the losses of the groups, which it returns, detached.

    A GPU computes in bf16 with the weights in float32.
    """
    device = model.device.type
    losses = []
    for documents in groups:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = batch_loss(model, documents, pad)
        loss.backward()
        losses.append(loss.detach())
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer, schedule in zip(optimizers, schedules, strict=True):
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
    return torch.stack(losses).sum()
