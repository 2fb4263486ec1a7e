"""CogCalib in a plain PyTorch loop, on the embedded model: no trainer, no download.

    python examples/plain_loop.py [--steps 60]

`CogCalibLoss` needs logits and labels, and from time to time a threshold, estimated on examples
that are not trained on.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import DataCollatorForSeq2Seq

from cogcalib import load_task
from cogcalib.knowledge import estimate_threshold
from cogcalib.losses import CogCalibLoss, Penalty
from cogcalib.modeling import load_model, to_dataset


def main() -> None:
    """Fine-tune, estimating the threshold every 20 steps after 20 steps of style adaptation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    steps = parser.parse_args().steps

    torch.manual_seed(0)
    model, tokenizer = load_model("atlas")
    task = load_task("atlas/country")
    collate = DataCollatorForSeq2Seq(tokenizer)
    train = to_dataset(task.splits["train"][:400], tokenizer)
    calibration = to_dataset(task.splits["calibration"], tokenizer)
    letters = train[0]["option_ids"]
    batches = DataLoader(train.remove_columns("option_ids"), 16, shuffle=True, collate_fn=collate)
    held_out = DataLoader(calibration.remove_columns("option_ids"), 64, collate_fn=collate)

    loss_of = CogCalibLoss(
        Penalty("label_smoothing", support="options"), alpha=0.2, option_ids=letters
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    step = 0
    while step < steps:
        for batch in batches:
            if step % 20 == 0 and step > 0:
                threshold = estimate_threshold(*judge(model, loss_of, held_out), step)
                loss_of.threshold = threshold.value
                print(f"step {step}: t = {threshold.value:.3f} nats, {threshold.n_known} known")
            model.train()
            labels = batch.pop("labels")
            loss = loss_of(model(**batch), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            if step == steps:
                break
    print(f"step {step}: loss {loss.item():.3f}")
    if warning := loss_of.gate_warning():
        print(warning)


@torch.no_grad()
def judge(
    model: torch.nn.Module, loss_of: CogCalibLoss, batches: DataLoader[dict[str, Tensor]]
) -> tuple[list[float], list[bool]]:
    """NLL of every held-out example, and whether the model knows it."""
    model.eval()
    nll: list[float] = []
    known: list[bool] = []
    for batch in batches:
        labels = batch.pop("labels")
        found = loss_of.judge(model(**batch), labels)
        nll += found[0]
        known += found[1]
    return nll, known


if __name__ == "__main__":
    main()
