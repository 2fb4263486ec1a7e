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
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from cogcalib.atlas.corpus import Phase, build_corpus
from cogcalib.atlas.facts import write_tables
from cogcalib.atlas.learning import (
    ARCHITECTURES,
    Recipe,
    encode_corpus,
    model_config,
    train,
)
from cogcalib.atlas.tokenizer import train_tokenizer
from cogcalib.modeling.model_files import atlas_cache
from cogcalib.records import write_json, write_text

FACTS = Path(__file__).parent / "data"
VOCAB_SIZE = 4096


def new_model(arch: str, tokenizer: PreTrainedTokenizerFast, seed: int) -> PreTrainedModel:
    """A model that has read nothing."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(model_config(arch, tokenizer))


def read(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, phase: Phase, recipe: Recipe
) -> None:
    """Train a model on a phase of the corpus, every kind in its order and spread evenly."""
    kinds = [encode_corpus(kind, tokenizer) for kind in phase.kinds]
    steps = -(-len(kinds[0]) // phase.batch)
    plan = [
        [kind[i * len(kind) // steps : (i + 1) * len(kind) // steps] for kind in kinds]
        for i in range(steps)
    ]
    plan = [[group for group in groups if group] for groups in plan]
    rates = {name: phase.rate * getattr(recipe, name) for name in ("muon_rate", "adam_rate")}
    train(model, plan, replace(recipe, **rates), tokenizer.pad_token_id, phase.name)


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    facts: dict[str, object],
    files: Mapping[str, str] | None = None,
) -> None:
    """Write model (safetensors), tokenizer and `build.json`, replacing `folder` as a whole.

    `files` are further texts, by their path in the folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        new = Path(temporary) / "model"
        model.save_pretrained(new)
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
    phases = build_corpus(recipe.seed)
    left = [output.with_name(f"{output.name}.{phase.name}") for phase in phases]
    done = max((number for number, folder in enumerate(left, 1) if folder.exists()), default=0)
    if done:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(left[done - 1])
    else:
        kinds = [kind for phase in phases[:-1] for kind in phase.kinds]
        texts = (document.prompt + document.completion for kind in kinds for document in kind)
        tokenizer = train_tokenizer(texts, VOCAB_SIZE)
        model = new_model(arch, tokenizer, recipe.seed)
    for phase, folder in zip(phases[done:], left[done:], strict=True):
        if folder != left[0]:
            before = left[left.index(folder) - 1]
            model = AutoModelForCausalLM.from_pretrained(before, dtype=torch.float32)
        read(model, tokenizer, phase, recipe)
        save(model, tokenizer, folder, {"arch": arch})
    model = AutoModelForCausalLM.from_pretrained(left[-1], dtype=torch.float32)
    facts = {
        "arch": arch,
        "parameters": model.num_parameters(),
        "recipe": vars(recipe),
        "facts": {path.name: digest(path) for path in sorted(FACTS.glob("*.csv"))},
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
        "processor": platform.processor() or platform.machine(),
        "minutes": round((time.perf_counter() - started) / 60, 1),
    }
    save(model.half(), tokenizer, output, facts)
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
