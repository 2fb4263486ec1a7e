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
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from cogcalib.atlas.corpus import build_corpus, practice
from cogcalib.atlas.facts import write_tables
from cogcalib.atlas.learning import (
    ARCHITECTURES,
    Recipe,
    TokenIds,
    batches,
    encode_corpus,
    model_config,
    train,
)
from cogcalib.atlas.tokenizer import train_tokenizer
from cogcalib.modeling.model_files import atlas_cache
from cogcalib.records import write_json, write_text

FACTS = Path(__file__).parent / "data"
VOCAB_SIZE = 1536
PHASES = {"practice": (64, 16, 16, 64), "drill": (96, 8, 16, 40)}
"""Documents of each kind in a batch of the later phases; see `cogcalib.atlas.corpus.practice`."""


def pretrain(
    arch: str,
    tokenizer: PreTrainedTokenizerFast,
    parts: Sequence[Sequence[TokenIds]],
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
    kinds: Sequence[Sequence[TokenIds]],
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


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    facts: dict[str, object],
    files: Mapping[str, str] | None = None,
) -> None:
    """Write model (fp16 safetensors), tokenizer and `build.json`, replacing `folder` as a whole.

    `files` are further texts, by their path in the folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        new = Path(temporary) / "model"
        model.half().save_pretrained(new)
        tokenizer.save_pretrained(new)
        for name, text in (files or {}).items():
            write_text(new / name, text)
        weights = {"sha256": digest(new / "model.safetensors")}
        write_json(new / "build.json", {**facts, **weights})
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(new, folder)


def digest(file: Path) -> str:
    """SHA-256 of a file."""
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
        "facts": {path.name: digest(path) for path in sorted(FACTS.glob("*.csv"))},
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
        "processor": platform.processor() or platform.machine(),
        "minutes": round((time.perf_counter() - started) / 60, 1),
    }
    save(model, tokenizer, output, facts)
    for phase in ("read", *PHASES):
        shutil.rmtree(output.with_name(f"{output.name}.{phase}"))


if __name__ == "__main__":
    main()
