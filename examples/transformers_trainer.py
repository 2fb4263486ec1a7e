"""CogCalib as the loss of transformers' own Trainer, on the embedded model: no download.

    python examples/transformers_trainer.py [--steps 60]

The loss goes in as ``compute_loss_func``; a callback keeps its threshold up to date.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import (
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from cogcalib import load_task
from cogcalib.knowledge import estimate_threshold
from cogcalib.losses import CogCalibLoss, Penalty
from cogcalib.modeling import load_model, to_dataset


class Threshold(TrainerCallback):
    """Estimates the threshold every 20 steps, after 20 steps of plain cross-entropy."""

    def __init__(self, loss_of: CogCalibLoss, batches: DataLoader[Any]) -> None:
        self.loss_of, self.batches = loss_of, batches

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == 0 or state.global_step % 20:
            return
        model, nll, known = kwargs["model"], [], []
        model.eval()
        with torch.no_grad():
            for batch in self.batches:
                inputs = {name: value.to(model.device) for name, value in batch.items()}
                labels = inputs.pop("labels")
                found = self.loss_of.judge(model(**inputs), labels)
                nll += found[0]
                known += found[1]
        model.train()
        self.loss_of.threshold = estimate_threshold(nll, known).value
        print(f"step {state.global_step}: t = {self.loss_of.threshold:.3f} nats")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if warning := self.loss_of.gate_warning():
            print(warning)


def main() -> None:
    """Fine-tune the embedded model on geography it half knows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    steps = parser.parse_args().steps

    model, tokenizer = load_model("atlas")
    task = load_task("atlas/country")
    train = to_dataset(task.splits["train"][:400], tokenizer).remove_columns("option_ids")
    held_out = to_dataset(task.splits["calibration"], tokenizer).remove_columns("option_ids")
    collate = DataCollatorForSeq2Seq(tokenizer)
    loss_of = CogCalibLoss(Penalty("margin", margin=8.0), alpha=0.2)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model,
            TrainingArguments(
                folder,
                max_steps=steps,
                per_device_train_batch_size=16,
                learning_rate=3e-4,
                logging_steps=20,
                save_strategy="no",
                report_to="none",
            ),
            data_collator=collate,
            train_dataset=train,
            compute_loss_func=loss_of,
            callbacks=[Threshold(loss_of, DataLoader(held_out, 64, collate_fn=collate))],
        )
        trainer.train()


if __name__ == "__main__":
    main()
