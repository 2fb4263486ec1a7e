"""One fine-tuned model per method and seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations import get_available_reporting_integrations

from cogcalib.harness.config import Config, Method
from cogcalib.harness.config.methods import EARLY
from cogcalib.harness.config.train_sections import ModelSection
from cogcalib.harness.progress import Advance
from cogcalib.harness.stages.baselines import check_baseline
from cogcalib.harness.stages.context import (
    THRESHOLD,
    RunContext,
    Splits,
    member_seeds,
    of_seed,
)
from cogcalib.harness.stages.settle import with_steps
from cogcalib.harness.stages.shared_files import share_tokenizer
from cogcalib.modeling import load_model, lora_config
from cogcalib.modeling.lora import check_targets
from cogcalib.records import Example, ProbeRecord
from cogcalib.training import CogCalibConfig, FitData, fit

_SCHEDULES = {"constant": "constant_with_warmup"}
"""Schedule -> transformers' name, where it is another."""
MANY = 10**6
Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]


def check_methods(config: Config) -> None:
    """Build every method's training arguments once, before any is needed.

    Raises:
        ValueError: As `CogCalibConfig`; also for a baseline or tracker that cannot run here.
    """
    if config.train.report_to:
        installed = get_available_reporting_integrations()
        if lost := [name for name in config.train.report_to if name not in installed]:
            raise ValueError(
                f"train.report_to must name trackers that are installed, "
                f"{', '.join(sorted(installed)) or 'and there is none'}; got {', '.join(lost)}"
            )
    for name in config.methods:
        method = Method.parse(name)
        check_baseline(method)
        if method.trained != "base":
            nominal = with_steps(config, MANY)  # how many there are is not known yet
            CogCalibConfig(config.name, **_trainer_settings(nominal, method, config.seeds[0]))


def train(
    context: RunContext,
    method: Method,
    seed: int,
    splits: Splits,
    knowledge: Mapping[str, ProbeRecord],
) -> None:
    """Fine-tune the models a method needs, unless it is the base model."""
    if method.trained != "base":
        for each in member_seeds(context.config, method, seed):
            _train(context, method, each, splits, knowledge)


def _train(
    context: RunContext,
    method: Method,
    seed: int,
    splits: Splits,
    knowledge: Mapping[str, ProbeRecord],
) -> None:
    output = context.folder.train(method.trained, seed)
    label = f"train: {method.trained}, seed {seed}"
    if output.exists():
        context.progress.skipped(label)
        return
    config = with_steps(context.config, len(splits["train"]))
    with context.progress.stage(label, config.train.steps_for(0)) as advance:
        train_into(output, config, method, seed, splits, knowledge, lambda _: advance)
    share_tokenizer(output)


def train_into(
    output: Path,
    config: Config,
    method: Method,
    seed: int,
    splits: Splits,
    knowledge: Mapping[str, ProbeRecord],
    watch: Callable[[Loaded], Advance],
) -> None:
    """Fine-tune one model into a folder that does not exist yet.

    Args:
        output: The folder.
        config: How it is trained; ``train.epochs`` are of the training split.
        method: Whose training.
        seed: Of the training.
        splits: The questions.
        knowledge: Example id -> what the base model knows of it.
        watch: Given the model before it is trained, returns what is told the optimiser steps done.
            The model may be scored there, as it then stands: adapters are put into it in place.
    """
    config = with_steps(config, len(splits["train"]))
    lora = config.model.lora
    dropout = config.baselines.dropout if method.stem == "mc_dropout" else lora and lora.dropout
    how = config.model.loading() | ({} if lora else {"dtype": "float32"})
    halves = of_seed(splits, seed)
    model, tokenizer = load_model(config.model.path, **how)
    if lora:
        check_targets(model, lora.targets)
    fit(
        model,
        tokenizer,
        FitData(
            train=_kept(method, splits["train"], knowledge),
            calibration=halves[THRESHOLD],
            known={id: record.known for id, record in knowledge.items()},
            choice=halves["calibration"],
        ),
        output,
        _trainer_settings(config, method, seed),
        early=method.stem == EARLY,
        peft_config=_adapter(config.model, dropout or 0.0),
        progress=watch((model, tokenizer)),
    )


def _adapter(model: ModelSection, dropout: float) -> LoraConfig | None:
    """The adapter of a configuration; None where every weight is trained."""
    lora = model.lora
    if lora is None:
        return None
    return lora_config(lora.rank, lora.alpha, dropout, lora.targets, lora.dora, model.revision)


def _kept(
    method: Method, examples: Sequence[Example], knowledge: Mapping[str, ProbeRecord]
) -> list[Example]:
    """The examples a method trains on.

    Raises:
        ValueError: If it drops them all.
    """
    drops = {
        "drop_known": lambda record: record.known,
        "drop_unknown": lambda record: record.unknown,
    }.get(method.stem)
    kept = [example for example in examples if not (drops and drops(knowledge[example.id]))]
    if not kept:
        raise ValueError(f"methods: {method.name} would drop all {len(examples)} training examples")
    return kept


def _trainer_settings(config: Config, method: Method, seed: int) -> dict[str, Any]:
    stage, steps = config.train, config.train.steps_for(0)
    settings: dict[str, Any] = {
        "max_steps": steps,
        "per_device_train_batch_size": stage.batch_size,
        "per_device_eval_batch_size": stage.eval_batch_size,
        "gradient_accumulation_steps": stage.gradient_accumulation,
        "learning_rate": stage.learning_rate,
        "warmup_steps": round(stage.warmup_share * steps),
        "lr_scheduler_type": _SCHEDULES.get(stage.schedule, stage.schedule),
        "max_length": stage.max_length,
        "style_steps": stage.style_steps_of(method),
        "threshold_every": stage.threshold_every,
        "gate": method.gate,
        "alpha": stage.alpha_of(method),
        "logging_steps": max(1, steps // 30),
        "save_strategy": "steps" if stage.save_every else "no",
        "save_steps": stage.save_every or steps,
        "seed": seed,
        "bf16": config.model.dtype == "bfloat16",
        # transformers takes bfloat16 on a CPU only where it is told that a CPU is meant.
        "use_cpu": config.model.dtype == "bfloat16" and not torch.cuda.is_available(),
        "gradient_checkpointing": stage.gradient_checkpointing,
        "report_to": list(stage.report_to) or "none",
        "run_name": f"{config.name} {method.trained} seed {seed}",
        "eval_strategy": "no",
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
    if method.penalty:
        settings |= {
            "penalty": method.penalty,
            "support": method.support,
            "margin": stage.margin_of(method),
            "unit": stage.unit,
        }
    if method.gamma is not None:
        settings["gamma"] = method.gamma
    return settings
