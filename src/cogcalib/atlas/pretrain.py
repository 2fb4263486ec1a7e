"""Rebuild the embedded world and its tiny pretrained models from scratch.

    python -m cogcalib.atlas.pretrain                  # the shipped Llama
    python -m cogcalib.atlas.pretrain --arch mistral   # or qwen2

Seeded: the same machine and versions give the same weights. Two things make it quick: exam
documents supervise the answer alone, and batches hold documents of about one length.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from cogcalib.atlas.corpus import Document, build_corpus
from cogcalib.atlas.facts import write_tables
from cogcalib.atlas.tokenizer import train_tokenizer
from cogcalib.modeling.model import atlas_cache
from cogcalib.records import write_json

ARCHITECTURES = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config}
VOCAB_SIZE = 1536


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train. `tokens` counts a batch's real (unpadded) tokens."""

    passes: int = 1
    tokens: int = 4096
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    warmup: float = 0.04
    seed: int = 0


def model_config(arch: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    """About one million parameters of the given architecture."""
    return ARCHITECTURES[arch](
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4 if arch == "llama" else 2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


@dataclass(frozen=True)
class Encoded:
    """Token ids of a document; positions from `start` on are supervised."""

    ids: list[int]
    start: int


def encode_corpus(
    documents: Sequence[Document], tokenizer: PreTrainedTokenizerFast
) -> list[Encoded]:
    """Tokenise documents: ``<s>`` prompt completion ``</s>``."""
    prompts = tokenizer([d.prompt for d in documents])["input_ids"]
    completions = tokenizer([d.completion for d in documents], add_special_tokens=False)
    return [
        Encoded([*prompt, *completion, tokenizer.eos_token_id], len(prompt))
        for prompt, completion in zip(prompts, completions["input_ids"], strict=True)
    ]


def batches(lengths: Sequence[int], tokens: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Indices of one pass: batches of about `tokens` tokens and of one length, in random order."""
    order = rng.permutation(len(lengths))
    order = order[np.argsort(np.asarray(lengths)[order], kind="stable")]
    cuts = np.cumsum(np.asarray(lengths)[order]) // tokens
    groups = np.split(order, np.flatnonzero(np.diff(cuts)) + 1)
    return [groups[i] for i in rng.permutation(len(groups))]


def batch_loss(model: PreTrainedModel, documents: Sequence[Encoded], pad: int) -> torch.Tensor:
    """Mean cross-entropy over the supervised tokens; only those are projected on the vocabulary."""
    width = max(len(d.ids) for d in documents)
    ids = torch.full((len(documents), width), pad)
    supervised = torch.zeros((len(documents), width), dtype=torch.bool)
    for row, document in enumerate(documents):
        ids[row, : len(document.ids)] = torch.tensor(document.ids)
        supervised[row, document.start : len(document.ids)] = True
    # Padding stands on the right, where causal attention never looks: no mask is needed.
    hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    logits = model.get_output_embeddings()(hidden[:, :-1][supervised[:, 1:]])
    return F.cross_entropy(logits, ids[:, 1:][supervised[:, 1:]])


def pretrain(
    arch: str, tokenizer: PreTrainedTokenizerFast, corpus: Sequence[Encoded], recipe: Recipe
) -> PreTrainedModel:
    """Train a model from scratch with AdamW, warm-up and cosine decay; returns it in eval mode."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    model = AutoModelForCausalLM.from_config(model_config(arch, tokenizer))
    lengths = [len(document.ids) for document in corpus]
    plan = [b for _ in range(recipe.passes) for b in batches(lengths, recipe.tokens, rng)]
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": others},
    ]
    optimizer = torch.optim.AdamW(
        groups, lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=recipe.learning_rate,
        total_steps=len(plan),
        pct_start=recipe.warmup,
        cycle_momentum=False,
    )
    model.train()
    for indices in track(plan, description=f"pretraining atlas ({arch})"):
        loss = batch_loss(model, [corpus[i] for i in indices], tokenizer.pad_token_id)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
    return model.eval()


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    facts: dict[str, object],
) -> None:
    """Write model (fp16 safetensors), tokenizer and `build.json`, replacing `folder` as a whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        new = Path(temporary) / "model"
        model.half().save_pretrained(new)
        tokenizer.save_pretrained(new)
        digest = hashlib.sha256((new / "model.safetensors").read_bytes()).hexdigest()
        write_json(new / "build.json", {**facts, "sha256": digest})
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(new, folder)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(prog="python -m cogcalib.atlas.pretrain", description=__doc__)
    parser.add_argument("--arch", choices=sorted(ARCHITECTURES), default="llama")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder of the model (default: where cogcalib looks for models that are not shipped)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--facts", action="store_true", help="also rebuild the tables of facts")
    options = parser.parse_args(argv)
    if options.facts:
        write_tables(Path(__file__).parent / "data")
    started = time.perf_counter()
    recipe = Recipe(seed=options.seed)
    documents = build_corpus(recipe.seed)
    tokenizer = train_tokenizer((d.prompt + d.completion for d in documents), VOCAB_SIZE)
    model = pretrain(options.arch, tokenizer, encode_corpus(documents, tokenizer), recipe)
    build = {
        "arch": options.arch,
        "parameters": model.num_parameters(),
        "recipe": vars(recipe),
        "torch": torch.__version__,
        "minutes": round((time.perf_counter() - started) / 60, 1),
    }
    save(model, tokenizer, options.output or atlas_cache() / options.arch, build)


if __name__ == "__main__":
    main()
