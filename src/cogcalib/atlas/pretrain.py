"""Rebuild the embedded world and its tiny pretrained models from scratch.

    python -m cogcalib.atlas.pretrain                  # the shipped Llama
    python -m cogcalib.atlas.pretrain --arch mistral   # or qwen2

Seeded, and on one thread, so that sums are taken in one order: the same kind of processor and the
versions in `build.json` give the same weights. What makes it quick: documents supervise their
answer alone, a batch holds documents of about one length, the question format is learnt first on
questions that need no knowledge, and the body is trained with Muon (Jordan et al., 2024), which
learns the same facts in far fewer steps than AdamW.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

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

from cogcalib.atlas.corpus import Document, build_corpus, practice
from cogcalib.atlas.facts import write_tables
from cogcalib.atlas.tokenizer import train_tokenizer
from cogcalib.modeling.model import atlas_cache
from cogcalib.records import write_json

ARCHITECTURES = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config}
FACTS = Path(__file__).parent / "data"
VOCAB_SIZE = 1536
PHASES = {"practice": (64, 16, 16, 64), "drill": (96, 8, 16, 40)}
"""Documents of each kind in a batch of the later phases; see `cogcalib.atlas.corpus.practice`."""


@dataclass(frozen=True)
class Recipe:
    """How fast to train.

    Attributes:
        tokens: Of a batch, padding not counted.
        muon_rate: Peak learning rate of the body's matrices.
        adam_rate: Peak learning rate of embeddings and norms.
        warmup: Share of all steps.
        practice: Steps of each later phase.
    """

    tokens: int = 4096
    muon_rate: float = 1e-2
    adam_rate: float = 3e-3
    weight_decay: float = 0.05
    warmup: float = 0.03
    practice: int = 700
    seed: int = 0


def model_config(arch: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    """About one million parameters of the given architecture."""
    return ARCHITECTURES[arch](
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4 if arch == "llama" else 2,
        max_position_embeddings=512,
        initializer_range=0.04,
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


def build_optimizers(model: PreTrainedModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the body, AdamW for embeddings, norms and biases."""
    body = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    chosen = {id(p) for p in body}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(body, lr=recipe.muon_rate, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(others, lr=recipe.adam_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def pretrain(
    arch: str,
    tokenizer: PreTrainedTokenizerFast,
    parts: Sequence[Sequence[Encoded]],
    recipe: Recipe,
) -> PreTrainedModel:
    """Train a model from scratch on the parts of the corpus in turn."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    model = AutoModelForCausalLM.from_config(model_config(arch, tokenizer))
    plan = [
        [[part[index] for index in batch]]
        for part in parts
        for batch in batches([len(document.ids) for document in part], recipe.tokens, rng)
    ]
    train(model, plan, recipe, tokenizer.pad_token_id, f"pretraining atlas ({arch})")
    return model


def practise(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    kinds: Sequence[Sequence[Encoded]],
    phase: str,
    recipe: Recipe,
) -> PreTrainedModel:
    """Train on with every kind of document in every batch, multiple choice above all.

    Reading alone leaves a model that knows the answers but often points to the wrong letter.
    """
    plan = [
        [
            [kind[(step * size + k) % len(kind)] for k in range(size)]
            for kind, size in zip(kinds, PHASES[phase], strict=True)
        ]
        for step in range(recipe.practice)
    ]
    train(model, plan, recipe, tokenizer.pad_token_id, phase)
    return model


def train(
    model: PreTrainedModel,
    plan: Sequence[Sequence[Sequence[Encoded]]],
    recipe: Recipe,
    pad: int,
    description: str,
) -> None:
    """One step per item of `plan`, over the sum of the losses of its groups of like documents."""
    optimizers = build_optimizers(model, recipe)
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=len(plan),
            pct_start=recipe.warmup,
            cycle_momentum=False,
        )
        for optimizer in optimizers
    ]
    model.train()
    for groups in track(plan, description=description):
        for documents in groups:
            batch_loss(model, documents, pad).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
    model.eval()


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
        weights = {"sha256": _digest(new / "model.safetensors")}
        write_json(new / "build.json", {**facts, **weights})
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(new, folder)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


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
        write_tables(FACTS)
    torch.set_num_threads(1)
    build(options.arch, options.output or atlas_cache() / options.arch, Recipe(seed=options.seed))


def build(arch: str, output: Path, recipe: Recipe) -> None:
    """All phases. Each leaves ``<output>.<phase>``, from which an interrupted build goes on."""
    started = time.perf_counter()
    parts = build_corpus(recipe.seed)
    read = output.with_name(f"{output.name}.read")
    if not read.exists():
        texts = (document.prompt + document.completion for part in parts for document in part)
        tokenizer = train_tokenizer(texts, VOCAB_SIZE)
        encoded = [encode_corpus(part, tokenizer) for part in parts]
        save(pretrain(arch, tokenizer, encoded, recipe), tokenizer, read, {"arch": arch})
    model = AutoModelForCausalLM.from_pretrained(read, dtype=torch.float32)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(read)
    for phase in PHASES:
        after = output.with_name(f"{output.name}.{phase}")
        if not after.exists():
            documents = practice(recipe.seed, drill=phase == "drill")
            kinds = [encode_corpus(kind, tokenizer) for kind in documents]
            save(practise(model, tokenizer, kinds, phase, recipe), tokenizer, after, {"arch": arch})
        model = AutoModelForCausalLM.from_pretrained(after, dtype=torch.float32)
    facts = {
        "arch": arch,
        "parameters": model.num_parameters(),
        "recipe": vars(recipe),
        "facts": {path.name: _digest(path) for path in sorted(FACTS.glob("*.csv"))},
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
        "processor": platform.processor() or platform.machine(),
        "minutes": round((time.perf_counter() - started) / 60, 1),
    }
    save(model, tokenizer, output, facts)
    for phase in ("read", *PHASES):
        shutil.rmtree(output.with_name(f"{output.name}.{phase}"))


if __name__ == "__main__":
    main()
