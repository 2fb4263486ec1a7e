"""Training stopped early: the best step's weights, and the training that it is part of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig
from test_resume import StopAt
from tiny_run import (
    assert_same_weights,
    make_args,
    make_data,
    make_model,
    make_tokenizer,
    make_trainer,
)

from cogcalib.training.early_stopping import EarlyStoppedTrainer

SETTINGS: dict[str, Any] = {
    "gate": "none",
    "max_steps": 12,
    "style_steps": 2,
    "threshold_every": 2,
    "gradient_accumulation_steps": 1,
    "per_device_train_batch_size": 8,
    # Steps that grow until they do harm, on any processor: the last is not the best.
    "learning_rate": 3.0,
    "lr_scheduler_type": "constant_with_warmup",
    "warmup_steps": 12,
}


def stopped(output: Path, *, stop: int = 0, resume: bool = False, **pieces: Any) -> Any:
    calibration = make_data(24, seed=1)
    settings = {**SETTINGS, "learning_rate": pieces.pop("learning_rate", 3.0)}
    trainer = EarlyStoppedTrainer(
        make_model(attention_dropout=0.2),
        make_args(output, **EarlyStoppedTrainer.settings(settings, 32, 24)),
        make_data(32),
        calibration,
        eval_dataset=calibration,
        processing_class=make_tokenizer(),
        callbacks=[StopAt(stop)] if stop else [],
        **pieces,
    )
    trainer.train(resume_from_checkpoint=resume or None)
    return trainer


def nlls(trainer: Any) -> dict[int, float]:
    rows = trainer.state.log_history
    return {row["step"]: row["eval_nll"] for row in rows if "eval_nll" in row}


@pytest.mark.parametrize(("lora", "learning_rate"), [(False, 3.0), (True, 1.0)])
def test_it_is_the_training_stopped_at_that_step(
    tmp_path: Path, lora: bool, learning_rate: float
) -> None:
    """To the bit, with dropout: how it is watched changes nothing."""
    adapter = LoraConfig(r=4, target_modules=["q_proj"], lora_dropout=0.1) if lora else None
    early = stopped(tmp_path / "early", peft_config=adapter, learning_rate=learning_rate)
    found = nlls(early)
    assert list(found) == [2, 4, 6, 8, 10, 12]
    best = min(found, key=found.__getitem__)
    last = early.state.log_history[-1]
    assert (last["kept_step"], last["kept_nll"]) == (best, found[best])
    assert best < 12
    plain = make_trainer(
        tmp_path / "plain",
        model=make_model(attention_dropout=0.2),
        sft_arguments={"callbacks": [StopAt(best)], "peft_config": adapter},
        **{**SETTINGS, "learning_rate": learning_rate},
    )
    plain.train()
    assert_same_weights(early, plain)
    assert early.run_calibration_pass().nll == found[best]


def test_a_resumed_one_ends_where_the_whole_does(tmp_path: Path) -> None:
    whole = stopped(tmp_path / "whole")
    best = whole.state.best_global_step
    stopped(tmp_path / "parts", stop=best + 1)
    resumed = stopped(tmp_path / "parts", resume=True)
    assert resumed.state.best_global_step == best
    assert nlls(resumed) == nlls(whole)
    assert_same_weights(resumed, whole)


def test_the_interval_is_that_of_the_threshold() -> None:
    share = EarlyStoppedTrainer.settings({**SETTINGS, "threshold_every": 0.5}, 320, 24)
    assert share["eval_steps"] == 20
    usual = EarlyStoppedTrainer.settings({**SETTINGS, "threshold_every": None}, 320, 24)
    assert usual["eval_steps"] == 40  # an epoch: fewer than 14 to each calibration example


def test_open_ended_the_nll_is_that_of_the_answers(tmp_path: Path) -> None:
    rows = make_data(24, seed=1).remove_columns("options")
    trainer = make_trainer(
        tmp_path, gate="none", train=make_data(32).remove_columns("options"), calibration=rows
    )
    loss = trainer.evaluate(trainer.calibration_dataset)["eval_loss"]
    assert trainer.run_calibration_pass().nll == pytest.approx(loss, rel=1e-5)  # all of two tokens
