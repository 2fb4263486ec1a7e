"""Micro-batches that share a denominator give the gradient of one batch, whoever adds them up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from cogcalib.losses import CogCalibLoss, Penalty

PENALTIES = [
    Penalty("label_smoothing"),
    Penalty("margin", margin=0.5),
    Penalty("entropy"),
    Penalty("label_smoothing", support="options"),
]
VOCABULARY = 29


def make_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).double()


def make_rows() -> list[dict[str, Tensor]]:
    """Eight examples with 1 to 7 labels, of which nothing predicts the very first of the last."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for supervised in (1, 5, 2, 1, 3, 4, 1, 7):
        ids = torch.randint(VOCABULARY, (7,), generator=generator)
        labels = ids.masked_fill(torch.arange(7) < 7 - supervised, -100)
        rows.append({"input_ids": ids, "labels": labels})
    return rows


def make_loss(penalty: Penalty) -> CogCalibLoss:
    """With a threshold between the NLLs of the untrained model."""
    batch = stacked(make_rows())
    labels = batch.pop("labels")
    answers = {int(next(label for label in row[1:] if label != -100)) for row in labels}
    options = sorted(answers) if penalty.support == "options" else None
    loss = CogCalibLoss(penalty, 0.4, option_ids=options)
    with torch.no_grad():
        nll, _ = loss.judge(make_model()(**batch), labels)
    loss.threshold = sum(sorted(nll)[3:5]) / 2
    return loss


def stacked(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def gradient(model: LlamaForCausalLM) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])  # type: ignore[union-attr]


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_a_loop_that_adds_up_micro_batches(penalty: Penalty) -> None:
    def accumulated(size: int) -> Tensor:
        model, loss_of, rows = make_model(), make_loss(penalty), make_rows()
        items = sum(int((row["labels"][1:] != -100).sum()) for row in rows)
        weights = []
        for start in range(0, len(rows), size):
            batch = stacked(rows[start : start + size])
            labels = batch.pop("labels")
            loss_of(model(**batch), labels, num_items_in_batch=items).backward()
            assert loss_of.weights is not None
            weights += loss_of.weights.tolist()
        assert sum(weights) == 4
        return gradient(model)

    at_once = accumulated(8)
    assert at_once.norm() > 0
    for size in (1, 2, 3):
        torch.testing.assert_close(accumulated(size), at_once, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_the_trainer_of_transformers_accumulates(tmp_path: Path, penalty: Penalty) -> None:
    class Kept(Trainer):
        """Remembers the gradient before the optimiser's only step, and the denominators."""

        seen: Tensor
        items: list[int]

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            self.items.append(int(kwargs["num_items_in_batch"]))
            return super().compute_loss(*args, **kwargs)

        def _get_grad_norm(self, model: Any, grad_norm: float | None = None) -> float | None:
            self.seen = gradient(model)
            return super()._get_grad_norm(model, grad_norm)

    def accumulated(size: int) -> Tensor:
        arguments = TrainingArguments(
            str(tmp_path),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=8 // size,
            max_steps=1,
            max_grad_norm=1e9,
            use_cpu=True,
            bf16=False,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
        )
        loss_of = make_loss(penalty)
        trainer = Kept(
            make_model(),
            arguments,
            train_dataset=make_rows(),  # type: ignore[arg-type]
            data_collator=stacked,
            compute_loss_func=loss_of,
        )
        trainer.items = []
        trainer.train()
        assert trainer.items == [23] * (8 // size)
        return trainer.seen

    at_once = accumulated(8)
    for size in (1, 2, 4):
        torch.testing.assert_close(accumulated(size), at_once, rtol=1e-10, atol=1e-12)
