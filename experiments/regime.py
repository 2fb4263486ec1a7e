"""Plain fine-tuning at several learning rates, judged on the calibration split.

regime.py --model atlas-qwen2 --rates 1e-3 2e-3 4e-3 8e-3
regime.py --model atlas --every-weight --rates 1e-4 3e-4 1e-3 2e-3

One line of JSON for each rate: accuracy and ECE over the options (fractions), NLL (nats). A preset
of `cogcalib reproduce` takes the rate with the lowest NLL here. Test splits are not touched.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence

import torch
from transformers import TrainerCallback

from cogcalib.harness.reproduce.definitions import load_preset
from cogcalib.modeling import load_model, lora_config
from cogcalib.modeling.encoding import to_dataset
from cogcalib.scoring import ScoreSettings, score, summarize
from cogcalib.tasks import draw, load_task
from cogcalib.training import CogCalibConfig, CogCalibTrainer

QUIET = {
    "save_strategy": "no",
    "eval_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
}


def fine_tuned(
    model_name: str,
    task_name: str,
    rate: float,
    *,
    seed: int = 0,
    every_weight: bool = False,
    kind: type[CogCalibTrainer] = CogCalibTrainer,
    callbacks: Sequence[TrainerCallback] = (),
) -> CogCalibTrainer:
    """Plain fine-tuning on a task of the embedded world, as its preset has it but for the rate."""
    preset = load_preset(model_name)
    settings, limit = preset.config["train"], preset.tasks[task_name]["tasks"]["limit"]["train"]
    model, tokenizer = load_model(model_name)
    train = draw(load_task(f"atlas/{task_name}").splits["train"], limit, seed)
    with tempfile.TemporaryDirectory() as folder:
        trainer = kind(
            model,
            CogCalibConfig(
                folder,
                gate="none",
                alpha=0.0,
                learning_rate=rate,
                max_steps=settings["steps"],
                per_device_train_batch_size=settings["batch_size"],
                warmup_steps=settings["steps"] // 20,
                lr_scheduler_type="cosine",
                seed=seed,
                **QUIET,
            ),
            to_dataset(train, tokenizer),
            processing_class=tokenizer,
            peft_config=None if every_weight else lora_config(8, 16, 0.0),
            callbacks=list(callbacks),
        )
        trainer.train()
    return trainer


def judged(options: argparse.Namespace, rate: float) -> dict[str, object]:
    """One training, and what the calibration split says of it."""
    trainer = fine_tuned(
        options.model, options.task, rate, seed=options.seed, every_weight=options.every_weight
    )
    calibration = load_task(f"atlas/{options.task}").splits["calibration"]
    predictions = score(trainer.model, trainer.processing_class, calibration, ScoreSettings())
    row = summarize(predictions, method="sft", seed=options.seed, resamples=2)
    figures = {
        "accuracy": row["accuracy"],
        "nll": row["nll"],
        "ece": row["ece"]["options"]["value"],
    }
    rounded = {name: round(value, 4) for name, value in figures.items()}
    return {**vars(options), "rates": rate, **rounded}


def main() -> None:
    """Train once for each rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="atlas")
    parser.add_argument("--task", default="country")
    parser.add_argument("--every-weight", action="store_true")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 2e-3, 4e-3, 8e-3])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for rate in options.rates:
        print(json.dumps(judged(options, rate)), flush=True)


if __name__ == "__main__":
    main()
