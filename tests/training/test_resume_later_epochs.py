"""Killed in the second epoch and later, and resumed: every example once in each, to the bit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from peft import LoraConfig
from test_resume import StopAt
from tiny_run import (
    assert_same_ledgers,
    assert_same_weights,
    make_data,
    make_model,
    make_rows,
    make_tokenizer,
    make_trainer,
)

from cogcalib.knowledge.ledger import read_ledger

SETTINGS: dict[str, dict[str, Any]] = {
    "random": {},
    "group_by_length": {"train_sampling_strategy": "group_by_length"},
    "group_by_length, accumulated": {
        "train_sampling_strategy": "group_by_length",
        "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": 2,
    },
    "group_by_length, evaluated": {
        "train_sampling_strategy": "group_by_length",
        "eval_strategy": "steps",
        "eval_steps": 2,
    },
    "batch_rebalance": {"train_sampling_strategy": "batch_rebalance"},
    "sequential": {"train_sampling_strategy": "sequential"},
    "data_seed": {"data_seed": 7},
    "dataloader_drop_last": {"dataloader_drop_last": True, "per_device_train_batch_size": 3},
    "dataloader_num_workers": {"dataloader_num_workers": 1},
    "shuffle_dataset": {"shuffle_dataset": True},
    "packing": {"packing": True, "max_length": 24, "per_device_train_batch_size": 2},
    "padding_free": {"padding_free": True, "max_length": None},
    "neftune_noise_alpha": {"neftune_noise_alpha": 5.0},
    "gate random": {"gate": "random"},
    "gate soft": {"gate": "soft"},
    "alpha auto": {"alpha": "auto"},
    "alpha gap": {"alpha": "gap", "penalty": "label_smoothing"},
    "gate prior": {"gate": "prior"},
    "gradient_checkpointing": {"gradient_checkpointing": True},
    "bf16": {"bf16": True},
    "gate none": {"gate": "none"},
    "plateau": {
        "lr_scheduler_type": "reduce_lr_on_plateau",
        "eval_strategy": "steps",
        "eval_steps": 1,
        "metric_for_best_model": "loss",
    },
}


def train(output: Path, *, stop: int = 0, resume: bool = False, **settings: Any) -> Any:
    trainer = make_trainer(
        output,
        model=make_model(attention_dropout=0.2),
        train=make_data(16),
        **{
            "max_steps": -1,
            "num_train_epochs": 4,
            "style_steps": 2,
            "threshold_every": 3,
            "per_device_train_batch_size": 4,
            "save_strategy": "steps",
            "save_steps": 1,
            **settings,
        },
        sft_arguments={
            "callbacks": [StopAt(stop)] if stop else [],
            "eval_dataset": make_data(8, seed=2),
            "peft_config": LoraConfig(r=4, target_modules=["q_proj"], lora_dropout=0.1),
        },
    )
    trainer.train(resume_from_checkpoint=resume or None)
    return trainer


QUICK = {"random", "group_by_length"}
"""Run with every change; the others with `make test-slow`."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in SETTINGS],
)
def test_killed_in_a_later_epoch_the_order_is_the_same(tmp_path: Path, name: str) -> None:
    settings = SETTINGS[name]
    whole = train(tmp_path / "whole", **settings)
    per_epoch = whole.state.max_steps // 4
    # In the middle of the second epoch, between the second and third, in the last.
    for stop in (per_epoch + 1, 2 * per_epoch, whole.state.max_steps - 1):
        parts = tmp_path / f"parts-{stop}"
        train(parts, stop=stop, **settings)
        resumed = train(parts, resume=True, **settings)
        assert resumed.state.global_step == whole.state.max_steps
        assert_same_weights(resumed, whole)
        if settings.get("gate") == "none":
            continue
        assert_same_ledgers(parts, tmp_path / "whole")
        table = read_ledger(parts)
        seen = Counter(zip(table["epoch"].to_pylist(), table["example"].to_pylist(), strict=True))
        assert set(seen.values()) == {1}
        assert settings.get("dataloader_drop_last") or len(seen) == 4 * 16


@pytest.mark.slow
def test_killed_twice(tmp_path: Path) -> None:
    settings = SETTINGS["group_by_length"]
    whole = train(tmp_path / "whole", **settings)
    for stop in (6, 7, 13):
        train(tmp_path / "parts", stop=stop, resume=stop > 6, **settings)
    assert_same_weights(train(tmp_path / "parts", resume=True, **settings), whole)
    assert_same_ledgers(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.slow
def test_oracle_turns_and_tokens(tmp_path: Path) -> None:
    rows = [{**row, "known": index % 3 == 0} for index, row in enumerate(make_rows(16))]
    data = Dataset.from_list(rows)
    for number, settings in enumerate(({"gate": "oracle"}, {"unit": "token"})):
        trained = []
        for output, stop, resume in (("whole", 0, False), ("parts", 6, False), ("parts", 0, True)):
            trainer = make_trainer(
                tmp_path / f"{output}-{number}",
                model=make_model(attention_dropout=0.2),
                train=data,
                max_steps=12,
                per_device_train_batch_size=4,
                save_strategy="steps",
                save_steps=2,
                train_sampling_strategy="group_by_length",
                tokenizer=make_tokenizer(),
                sft_arguments={"callbacks": [StopAt(stop)] if stop else []},
                **settings,
            )
            trainer.train(resume_from_checkpoint=resume or None)
            trained.append(trainer)
        assert_same_weights(trained[2], trained[0])
