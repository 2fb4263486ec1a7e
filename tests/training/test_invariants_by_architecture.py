"""The invariants of the method on every family it names: same weights after a few steps.

Whatever an architecture does to its hidden states and logits, training must equal TRL's where the
method asks for nothing, uniform regularisation where it asks for everything, and itself however the
batch is cut and wherever it is interrupted.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from heads import tiny_model
from test_architectures import DENSE, EXPERTS, MIXTURES
from tiny_run import (
    assert_same_weights,
    largest_difference,
    make_args,
    make_tokenizer,
    make_trainer,
)
from tiny_run import make_data as data
from trl import SFTConfig, SFTTrainer

pytestmark = pytest.mark.slow

FAMILIES = (
    "Llama", "Mistral", "Qwen2", "Qwen3", "Gemma2", "Gemma3", "Granite", "Cohere", "GPTNeoX",
    "GPT2", "Phi3", "Mixtral", "Qwen2Moe",
)  # fmt: skip
SGD = {"optim": "sgd", "learning_rate": 0.05, "max_steps": 3}


def build(name: str) -> Any:
    # The load-balancing loss is a mean over a micro-batch: other parts, another mean.
    experts = {**EXPERTS, "router_aux_loss_coef": 0.0} if name in MIXTURES else {}
    model = tiny_model(name, **experts, **(DENSE | MIXTURES)[name])
    if name == "Gemma2":  # its sdpa does not keep the examples of a row apart
        model.set_attn_implementation("eager")
    return model


def trained(name: str, output: Path, **settings: Any) -> Any:
    resume = settings.pop("resume", None)
    trainer = make_trainer(output, model=build(name), **{**SGD, **settings})
    trainer.train(resume_from_checkpoint=resume)
    assert trainer.reader.fused in (True, None)
    return trainer


def trained_by_trl(name: str, output: Path) -> SFTTrainer:
    ours = vars(make_args(output, **SGD))
    fields = SFTConfig.__dataclass_fields__
    arguments = {key: ours[key] for key, field in fields.items() if field.init and key in ours}
    trainer = SFTTrainer(
        build(name),
        SFTConfig(**arguments),
        train_dataset=data(32).remove_columns("options"),
        processing_class=make_tokenizer(),
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize("name", FAMILIES)
def test_without_a_penalty_it_is_trl(name: str, tmp_path: Path) -> None:
    theirs = trained_by_trl(name, tmp_path)
    assert_same_weights(trained(name, tmp_path, alpha=0.0), theirs, tolerance=2e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_none_known_and_all_known(name: str, tmp_path: Path) -> None:
    plain = trained(name, tmp_path, gate="all", alpha=0.0)
    uniform = trained(name, tmp_path, gate="all")
    assert_same_weights(trained(name, tmp_path, cut=-math.inf), plain, tolerance=2e-6)
    assert_same_weights(trained(name, tmp_path, cut=math.inf), uniform, tolerance=2e-6)
    assert largest_difference(plain, uniform) > 1e-5


@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_cut_in_parts_and_one_without_padding(name: str, tmp_path: Path) -> None:
    cut = 4.0
    at_once = trained(name, tmp_path, cut=cut)
    in_parts = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    assert_same_weights(at_once, trained(name, tmp_path, cut=cut, **in_parts), tolerance=5e-6)
    merged = trained(name, tmp_path, cut=cut, padding_free=True, max_length=None)
    assert_same_weights(at_once, merged, tolerance=5e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_stopped_and_resumed_to_the_bit(name: str, tmp_path: Path) -> None:
    settings = {"optim": "adamw_torch", "learning_rate": 1e-2, "max_steps": 4}
    saved = {"save_strategy": "steps", "save_steps": 2, **settings}
    whole = trained(name, tmp_path / "run", **saved)
    checkpoint = str(tmp_path / "run" / "checkpoint-2")
    torch.manual_seed(1)
    resumed = trained(name, tmp_path / "run", resume=checkpoint, **saved)
    assert resumed.threshold_history == whole.threshold_history
    assert_same_weights(resumed, whole)
