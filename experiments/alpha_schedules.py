"""Schedules of alpha compared: one training, scored on the calibration split.

alpha_schedules.py --schedule sft
alpha_schedules.py --schedule 0.2                      # a fixed alpha
alpha_schedules.py --schedule pi:1:0.5:0.5 --every 10  # gains, and the share of the way
alpha_schedules.py --schedule auto --every 25          # the trainer's own
alpha_schedules.py --schedule gap --support options  # each known example's own
alpha_schedules.py --task atlas/country-open --support vocab
"""

from __future__ import annotations

import argparse
import json
import tempfile
from typing import Any

import torch

from cogcalib.modeling import load_model, lora_config
from cogcalib.modeling.encoding import to_dataset
from cogcalib.scoring import ScoreSettings, score, summarize
from cogcalib.tasks import draw, load_task
from cogcalib.training import CogCalibConfig, CogCalibTrainer, alpha_controller

TEMPLATE = {
    "max_steps": 200,
    "per_device_train_batch_size": 16,
    "learning_rate": 1e-3,
    "warmup_steps": 10,
    "lr_scheduler_type": "cosine",
    "max_length": 512,
    "style_steps": 25,
    "logging_steps": 1000,
    "save_strategy": "no",
    "eval_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
}


def settings_of(schedule: str) -> dict[str, Any]:
    """Gate and alpha of a schedule; gains are set where the trainer looks them up."""
    if schedule == "sft":
        return {"gate": "none", "alpha": 0.0}
    if schedule in ("auto", "gap"):
        return {"alpha": schedule}
    if schedule.startswith("pi:"):
        gains = [float(gain) for gain in schedule.split(":")[1:]]
        alpha_controller.PROPORTIONAL, alpha_controller.INTEGRAL = gains[:2]
        alpha_controller.FOLLOWED = gains[2]
        return {"alpha": "auto"}
    return {"alpha": float(schedule)}


def main() -> None:
    """Train once, print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schedule", default="pi:1:0.5:0.5")
    parser.add_argument("--penalty", default="label_smoothing")
    parser.add_argument("--task", default="atlas/country")
    parser.add_argument("--support", default="options")
    parser.add_argument("--gate", default="nll")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)

    task = load_task(options.task)
    model, tokenizer = load_model("atlas")
    given = {name: getattr(options, name) for name in ("penalty", "support", "gate", "seed")}
    arguments = {
        **TEMPLATE,
        **given,
        "threshold_every": options.every,
        **settings_of(options.schedule),
    }
    with tempfile.TemporaryDirectory() as folder:
        trainer = CogCalibTrainer(
            model,
            CogCalibConfig(folder, ledger=False, **arguments),
            to_dataset(draw(task.splits["train"], 400, 0), tokenizer),
            to_dataset(task.splits["calibration"], tokenizer),
            processing_class=tokenizer,
            peft_config=lora_config(8, 16, 0.0),
        )
        trainer.train()
    found: dict[str, Any] = {**vars(options), "alpha": trainer.alpha}
    predictions = score(trainer.model, tokenizer, task.splits["calibration"], ScoreSettings())
    row = summarize(predictions, method=options.schedule, seed=options.seed, resamples=2)
    found |= {name: round(row[name], 4) for name in ("accuracy", "nll", "brier")}
    found |= {name: round(ece["value"], 4) for name, ece in row["ece"].items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
