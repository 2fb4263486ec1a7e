"""The invariants of the method on every family it names: same weights after a few steps.

Whatever an architecture does to its hidden states and logits, training must equal TRL's where the
method asks for nothing, uniform regularisation where it asks for everything, and itself however the
batch is cut and wherever it is interrupted.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
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
from transformers.trainer_pt_utils import LabelSmoother
from trl import SFTConfig, SFTTrainer

from cogcalib.knowledge.ledger import read_ledger

pytestmark = pytest.mark.slow

FAMILIES = (
    "Llama", "Mistral", "Qwen2", "Qwen3", "Gemma2", "Gemma3", "Granite", "Cohere", "GPTNeoX",
    "GPT2", "Phi3", "Mixtral", "Qwen2Moe",
)  # fmt: skip
N = 32
"""Training examples."""
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
    assert trainer.runner.fused in (True, None)
    return trainer


def trained_by_trl(name: str, output: Path) -> SFTTrainer:
    ours = vars(make_args(output, **SGD))
    fields = SFTConfig.__dataclass_fields__
    arguments = {key: ours[key] for key, field in fields.items() if field.init and key in ours}
    trainer = SFTTrainer(
        build(name),
        SFTConfig(**arguments),
        train_dataset=data(N).remove_columns("options"),
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


def median_nll(name: str, output: Path) -> float:
    """Of the training examples, before any training: a threshold that parts them in halves."""
    whole = {"max_steps": 1, "per_device_train_batch_size": N}
    trained(name, output, gate="all", alpha=0.0, **whole)
    nll = read_ledger(output)["nll"].to_numpy()
    assert len(nll) == N
    return float(np.median(nll))


def logged(trainer: Any, key: str) -> list[float]:
    """A number of each step."""
    return [row[key] for row in trainer.state.log_history if key in row]


def assert_gate_opens_for_some(trainer: Any) -> None:
    rates = logged(trainer, "gate_rate")
    assert len(rates) == trainer.state.max_steps
    assert 0 < sum(rates) / len(rates) < 1, rates


@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_cut_in_parts_and_one_without_padding(name: str, tmp_path: Path) -> None:
    cut = median_nll(name, tmp_path / "median")
    at_once = trained(name, tmp_path, cut=cut)
    assert_gate_opens_for_some(at_once)
    in_parts = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    assert_same_weights(at_once, trained(name, tmp_path, cut=cut, **in_parts), tolerance=5e-6)
    merged = trained(name, tmp_path, cut=cut, padding_free=True, max_length=None)
    assert_same_weights(at_once, merged, tolerance=5e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_packed_rows_have_the_loss_of_padded_ones(name: str, tmp_path: Path) -> None:
    settings = {"cut": median_nll(name, tmp_path / "median"), "max_grad_norm": 0.0}
    settings |= {"max_steps": 2, "per_device_train_batch_size": N}
    padded = trained(name, tmp_path, **settings)
    packed = trained(name, tmp_path, packing=True, max_length=60, **settings)
    assert_gate_opens_for_some(padded)
    for key in ("loss", "ce", "penalty", "gate_rate", "grad_norm"):
        assert logged(packed, key) == pytest.approx(logged(padded, key), rel=1e-4), key
    assert_same_weights(padded, packed, tolerance=5e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_uniform_smoothing_is_that_of_transformers_and_torch(name: str, tmp_path: Path) -> None:
    """Loss and gradient, in float64 but for experts, whose kernels have none."""
    model = build(name) if name in MIXTURES else build(name).double()
    trainer = make_trainer(tmp_path, model=model, gate="all", alpha=0.2)
    trainer.knowledge.style_end = 0
    batch = trainer._prepare_inputs(trainer.data_collator(list(trainer.train_dataset.take(6))))
    labels = batch["labels"]
    targets = labels[:, 1:].flatten()
    items = (targets != -100).sum()

    ours = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=items)
    outputs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    of_transformers = LabelSmoother(epsilon=0.2)(
        outputs, labels, shift_labels=True, num_items_in_batch=items
    )
    logits = outputs.logits[:, :-1].flatten(0, 1)
    of_torch = F.cross_entropy(logits, targets, label_smoothing=0.2, reduction="sum") / items

    named = {key: p for key, p in model.named_parameters() if p.requires_grad}
    our, *theirs = (
        torch.autograd.grad(loss, list(named.values()), retain_graph=True)
        for loss in (ours, of_transformers, of_torch)
    )
    # transformers sums log-probabilities in float32, and in experts all is.
    tolerances = (2e-6, 2e-6 if name in MIXTURES else 1e-11)
    for loss, their, most in zip((of_transformers, of_torch), theirs, tolerances, strict=True):
        torch.testing.assert_close(ours, loss, rtol=most, atol=most)
        for key, *pair in zip(named, our, their, strict=True):
            torch.testing.assert_close(
                *pair, rtol=most, atol=most, msg=lambda m, k=key: f"{k}: {m}"
            )


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
