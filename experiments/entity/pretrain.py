"""Pretrain a small model on facts of EntityQuestions that are read, some often, some never.

    python experiments/entity/pretrain.py --data-dir DATA --estimate
    python experiments/entity/pretrain.py --data-dir DATA --output runs/models/entity

Seeded. It can be interrupted: the same command goes on from its last checkpoint, to the same
weights. On a GPU, the whole data set and 24 M parameters, in bf16:

    python experiments/entity/pretrain.py --data-dir DATA --output runs/models/entity-24m \\
        --relations all --width 576 --layers 4 --vocabulary 12288 --tokens 8192 \\
        --device cuda --threads 8

`facts.py` says which facts are read how often, docs/reproduce.md what comes of it.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from facts import ASKED, MOST, UNREAD, Fact, by_readings, corpus, read_facts, table, task_files
from rich.progress import track
from statements import NAMES
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from cogcalib.atlas.learning import (
    Recipe,
    Size,
    TokenIds,
    batches,
    build_optimizers,
    build_schedules,
    encode_corpus,
    model_config,
    step,
)
from cogcalib.atlas.pretrain import digest, save
from cogcalib.atlas.tokenizer import train_tokenizer
from cogcalib.records import replacing
from cogcalib.tasks.loading import DATA_FOLDER

DEFAULT = ("birthplace", "country", "deathplace", "education", "headquarters", "language")
HEAD = 32
"""Width of an attention head."""
CHECKPOINT_SECONDS = 120
CURVE = 200
"""Points of the loss curve."""


@dataclass
class Lesson:
    """Everything that decides the weights but the model itself.

    Attributes:
        facts: All of them, in order.
        left_out: How many questions are no facts, by why.
        tokenizer: Trained on what is read.
        documents: Everything that is read, each once.
        plan: For each step, the documents read then.
    """

    facts: list[Fact]
    left_out: dict[str, int]
    tokenizer: PreTrainedTokenizerFast
    documents: list[TokenIds]
    plan: list[np.ndarray]


def prepare(options: argparse.Namespace, recipe: Recipe) -> Lesson:
    """Draw the facts and write down what is read in which order."""
    relations = [NAMES[name] for name in options.relations]
    facts, left_out = read_facts(
        options.data_dir, relations, seed=recipe.seed, most_train=options.most_train
    )
    documents, order = corpus(facts, recipe.seed)
    # Nothing of a fact that is never read gets into the vocabulary either.
    texts = [document.prompt + document.completion for document in documents]
    tokenizer = train_tokenizer(texts, options.vocabulary)
    encoded = encode_corpus(documents, tokenizer)
    rng = np.random.default_rng(recipe.seed)
    lengths = [len(encoded[index].ids) for index in order]
    read = np.asarray(order)
    plan = [read[batch] for batch in batches(lengths, recipe.tokens, rng)]
    return Lesson(facts, left_out, tokenizer, encoded, plan)


def learn(
    model: PreTrainedModel,
    lesson: Lesson,
    recipe: Recipe,
    checkpoint: Path,
    settings: dict[str, Any],
) -> tuple[list[float], float]:
    """Read everything, or go on from the checkpoint.

    Returns:
        The loss of every step, and the seconds spent, earlier sittings included.

    Raises:
        ValueError: If the checkpoint was made with other settings.
    """
    optimizers = build_optimizers(model, recipe)
    schedules = build_schedules(optimizers, recipe, len(lesson.plan))
    kept = {"model": model, **dict(zip(("muon", "adamw"), optimizers, strict=True))}
    kept |= dict(zip(("muon schedule", "adamw schedule"), schedules, strict=True))
    losses: list[float] = []
    spent = 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=model.device, weights_only=True)
        if state["settings"] != settings:
            raise ValueError(f"{checkpoint} was made with other settings: {state['settings']}")
        for name, part in kept.items():
            part.load_state_dict(state[name])
        losses, spent = state["losses"], state["seconds"]
    # Read from the device now and then only: a GPU goes on while the next batch is put together.
    unread: list[torch.Tensor] = []
    started = saved = time.perf_counter()
    model.train()
    for batch in track(lesson.plan[len(losses) :], description=f"from step {len(losses)}"):
        documents = [lesson.documents[index] for index in batch]
        loss = step(model, [documents], optimizers, schedules, lesson.tokenizer.pad_token_id)
        unread.append(loss)
        now = time.perf_counter()
        if now - saved >= CHECKPOINT_SECONDS:
            losses += torch.stack(unread).tolist()
            unread.clear()
            state = {name: part.state_dict() for name, part in kept.items()}
            state |= {"settings": settings, "losses": losses, "seconds": spent + now - started}
            with replacing(checkpoint) as temporary:
                torch.save(state, temporary)
            saved = now
    if unread:
        losses += torch.stack(unread).tolist()
    model.eval()
    return losses, spent + time.perf_counter() - started


@torch.no_grad()
def answered(model: PreTrainedModel, lesson: Lesson, tokens: int = 8192) -> list[bool]:
    """Whether greedy decoding gives each fact's first answer, by one pass with the answer given."""
    questions = encode_corpus([fact.question for fact in lesson.facts], lesson.tokenizer)
    right = np.zeros(len(questions), dtype=bool)
    lengths = [len(question.ids) for question in questions]
    for batch in track(batches(lengths, tokens, np.random.default_rng(0)), "asking"):
        documents = [questions[index] for index in batch]
        width = max(len(document.ids) for document in documents)
        pad = lesson.tokenizer.pad_token_id
        ids = torch.tensor([d.ids + [pad] * (width - len(d.ids)) for d in documents])
        logits = model(input_ids=ids.to(model.device), use_cache=False).logits
        hits = (logits[:, :-1].argmax(-1).cpu() == ids[:, 1:]).tolist()
        for index, document, row in zip(batch, documents, hits, strict=True):
            right[index] = all(row[document.start - 1 : len(document.ids) - 1])
    return [bool(known) for known in right]


def build(options: argparse.Namespace) -> None:
    """The model, its facts and its tasks, in one folder that appears when it is whole."""
    recipe = Recipe(tokens=options.tokens, seed=options.seed)
    size = Size(options.width, options.layers, options.width // HEAD)
    torch.set_num_threads(options.threads)
    lesson = prepare(options, recipe)
    torch.manual_seed(recipe.seed)
    model = AutoModelForCausalLM.from_config(model_config("llama", lesson.tokenizer, size))
    model.to(options.device)
    read = sum(len(lesson.documents[index].ids) for batch in lesson.plan for index in batch)
    print(
        f"{len(lesson.facts):,} facts, {read:,} tokens in {len(lesson.plan):,} steps, "
        f"{model.num_parameters():,} parameters"
    )
    if options.estimate:
        wall, processor = estimate(model, lesson, recipe)
        print(f"{wall:.0f} minutes at this rate, {processor:.0f} of processor time")
        return
    settings = _settings(options, recipe, size)
    checkpoint = options.output.with_name(f"{options.output.name}.checkpoint.pt")
    losses, seconds = learn(model, lesson, recipe, checkpoint, settings)
    right = answered(model, lesson)
    record = {
        "command": " ".join(["python", *sys.argv]),
        **settings,
        "parameters": model.num_parameters(),
        "exposures": _summary(lesson),
        "tokens_read": read,
        "steps": len(losses),
        "losses": _curve(losses),
        "right": by_readings(lesson.facts, right),
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
        "processor": platform.processor() or platform.machine(),
        "minutes": round(seconds / 60, 1),
    }
    files = {f"tasks/{name}": text for name, text in task_files(lesson.facts)}
    files["facts.csv"] = table(lesson.facts, right)
    save(model.half(), lesson.tokenizer, options.output, record, files)
    checkpoint.unlink(missing_ok=True)
    for row in record["right"]:
        print(row)


def estimate(
    model: PreTrainedModel, lesson: Lesson, recipe: Recipe, steps: int = 5
) -> tuple[float, float]:
    """Minutes of the clock and of the processor that reading will take, by its first steps."""
    optimizers = build_optimizers(model, recipe)
    schedules = build_schedules(optimizers, recipe, len(lesson.plan))
    for number, batch in enumerate(lesson.plan[: steps + 1]):
        if number == 1:  # The first one warms up.
            started, worked = time.perf_counter(), time.process_time()
        documents = [lesson.documents[index] for index in batch]
        loss = step(model, [documents], optimizers, schedules, lesson.tokenizer.pad_token_id)
    loss.item()
    minutes = len(lesson.plan) / steps / 60
    return (time.perf_counter() - started) * minutes, (time.process_time() - worked) * minutes


def _settings(options: argparse.Namespace, recipe: Recipe, size: Size) -> dict[str, Any]:
    """What must be the same for a checkpoint to be gone on with."""
    folder = options.data_dir / "entity_questions"
    return {
        "recipe": vars(recipe),
        "size": vars(size),
        "vocabulary": options.vocabulary,
        "relations": list(options.relations),
        "most_train": options.most_train,
        "unread": UNREAD,
        "most": MOST,
        "asked": ASKED,
        "device": options.device,
        "threads": options.threads,
        "data": {path.name: digest(path) for path in sorted(folder.glob("*.jsonl"))},
    }


def _summary(lesson: Lesson) -> dict[str, Any]:
    splits: dict[str, dict[str, int]] = {}
    for fact in lesson.facts:
        held = splits.setdefault(fact.example.split, {"facts": 0, "unread": 0, "asked": 0})
        held["facts"] += 1
        held["unread"] += fact.readings == 0
        held["asked"] += fact.asked
    readings = sum(fact.readings for fact in lesson.facts)
    return {"splits": splits, "readings": readings, "left_out": lesson.left_out}


def _curve(losses: Sequence[float]) -> list[list[float]]:
    """Step and mean loss since the point before."""
    every = max(1, len(losses) // CURVE)
    chunks = [losses[i : i + every] for i in range(0, len(losses), every)]
    return [[i * every + len(c), round(sum(c) / len(c), 4)] for i, c in enumerate(chunks)]


def _relations(text: str) -> tuple[str, ...]:
    names = tuple(sorted(NAMES)) if text == "all" else tuple(text.split(","))
    if unknown := [name for name in names if name not in NAMES]:
        raise argparse.ArgumentTypeError(
            f"must be among {', '.join(sorted(NAMES))}, got {', '.join(unknown)}"
        )
    return names


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    named = os.environ.get(DATA_FOLDER)
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path(named) if named else None,
        help=f"folder of local data sets (${DATA_FOLDER})",
    )
    parser.add_argument("--output", type=Path, default=Path("runs/models/entity"))
    parser.add_argument(
        "--relations",
        type=_relations,
        default=DEFAULT,
        help=f"names separated by commas, or all ({','.join(DEFAULT)})",
    )
    parser.add_argument("--most-train", type=int, help="facts kept of each train split (all)")
    parser.add_argument("--width", type=int, default=256, help=f"a multiple of {HEAD} (256)")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--tokens", type=int, default=4096, help="of a batch (4096)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--estimate", action="store_true", help="say how long it takes; write nothing"
    )
    options = parser.parse_args(argv)
    if options.width % HEAD:
        parser.error(f"--width must be a multiple of {HEAD}, got {options.width}")
    if options.data_dir is None or not (options.data_dir / "entity_questions").is_dir():
        parser.error(f"--data-dir must be a folder with entity_questions, got {options.data_dir}")
    build(options)


if __name__ == "__main__":
    main()
