"""Settings of TRL and transformers do here what they do there: with alpha = 0 both train the same.

Those that reach the data, the batches or the forward pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from test_trainer_equivalence import TRL_METRICS, train_with_trl, trained
from tiny_run import (
    CHAT_TEMPLATE,
    assert_same_weights,
    make_data,
    make_model,
    make_rows,
    make_trainer,
    weights,
)

SETTINGS: dict[str, dict[str, Any]] = {
    "shuffle_dataset": {"shuffle_dataset": True},
    "pad_to_multiple_of": {"pad_to_multiple_of": 16},
    "completion_only_loss": {"completion_only_loss": False},
    "eos_token": {"eos_token": "<user>"},
    "pad_token": {"pad_token": "AA"},
    "max_length": {"max_length": 40},
    "neftune_noise_alpha": {"neftune_noise_alpha": 5.0},
    "remove_unused_columns": {"remove_unused_columns": False},
    "dataloader_num_workers": {"dataloader_num_workers": 1, "max_steps": 2},
    "dataloader_drop_last": {"dataloader_drop_last": True, "per_device_train_batch_size": 5},
    "train_sampling_strategy": {"train_sampling_strategy": "group_by_length"},
    "activation_checkpointing_kwargs": {
        "gradient_checkpointing": True,
        "activation_checkpointing_kwargs": {"use_reentrant": True},
    },
    "include_num_input_tokens_seen": {"include_num_input_tokens_seen": "all"},
}


def plain(n: int, seed: int = 0) -> Dataset:
    return make_data(n, seed).remove_columns("options")


@pytest.mark.filterwarnings("ignore:`pad_token` is deprecated:FutureWarning")
@pytest.mark.parametrize("name", SETTINGS)
def test_trains_what_trl_trains(tmp_path: Path, name: str) -> None:
    settings = {"optim": "sgd", "learning_rate": 0.1, **SETTINGS[name]}
    data = {"train": plain(32), "calibration": plain(24, seed=1)}
    ours = trained(tmp_path, alpha=0.0, **data, **settings)
    theirs = train_with_trl(tmp_path, **settings)
    assert_same_weights(ours, theirs, tolerance=1e-6)
    assert ours.threshold_history  # estimated in between, which disturbs nothing
    logs = (t.state.log_history[:-1] for t in (ours, theirs))
    for our_row, their_row in zip(*logs, strict=True):
        for metric in TRL_METRICS:
            assert our_row[metric] == pytest.approx(their_row[metric], rel=1e-5), metric


@pytest.mark.slow
def test_data_prepared_by_two_processes_are_the_same(tmp_path: Path) -> None:
    one, two = (make_trainer(tmp_path, dataset_num_proc=n) for n in (None, 2))
    assert one.train_dataset.to_list() == two.train_dataset.to_list()
    assert one.calibration_dataset.to_list() == two.calibration_dataset.to_list()


def test_text_by_another_name_or_from_a_function(tmp_path: Path) -> None:
    def data(n: int, seed: int, name: str) -> Dataset:
        return Dataset.from_list([{name: row["prompt"]} for row in make_rows(n, seed)])

    usual, renamed = (
        make_trainer(
            tmp_path,
            train=data(8, 0, name),
            calibration=data(8, 1, name),
            dataset_text_field=name,
            learn_prompts=True,
        )
        for name in ("text", "question")
    )
    made = make_trainer(
        tmp_path,
        train=data(8, 0, "question"),
        calibration=data(8, 1, "question"),
        learn_prompts=True,
        sft_arguments={"formatting_func": lambda row: row["question"]},
    )
    for other in (renamed, made):
        for column in ("input_ids", "labels"):
            assert list(other.train_dataset[column]) == list(usual.train_dataset[column])


def test_chat_template_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "template.jinja"
    path.write_text(CHAT_TEMPLATE.replace("<user> ", "? "))

    def data(n: int, seed: int) -> Dataset:
        return Dataset.from_list(
            [
                {
                    "messages": [
                        {"role": "user", "content": row["prompt"]},
                        {"role": "assistant", "content": row["completion"].strip()},
                    ]
                }
                for row in make_rows(n, seed)
            ]
        )

    trainer = make_trainer(
        tmp_path,
        train=data(8, 0),
        calibration=data(8, 1),
        assistant_only_loss=True,
        chat_template_path=str(path),
    )
    user, question = trainer.processing_class.convert_tokens_to_ids(["<user>", "?"])
    for row in [*trainer.train_dataset, *trainer.calibration_dataset]:
        assert user not in row["input_ids"]
        assert row["input_ids"][0] == question
    trainer.train()
    assert len(trainer.threshold_history) == 3


def test_a_model_by_its_path(tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path / "model")
    trainer = make_trainer(
        tmp_path / "run",
        model=str(tmp_path / "model"),
        model_init_kwargs={"dtype": "bfloat16"},
    )
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.bfloat16}
    trainer.train()
    assert len(trainer.threshold_history) == 3


@pytest.mark.parametrize("gate", ["nll", "none"])
def test_the_best_model_is_loaded_at_the_end(tmp_path: Path, gate: str) -> None:
    trainer = make_trainer(
        tmp_path,
        gate=gate,
        max_steps=4,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        greater_is_better=True,  # so that the last is not the best
        sft_arguments={"eval_dataset": make_data(8, seed=2)},
    )
    trainer.train()
    losses = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    best = 1 + losses.index(max(losses))
    assert trainer.state.best_model_checkpoint == str(tmp_path / f"checkpoint-{best}")
    assert best < 4
    kept = type(trainer.model).from_pretrained(tmp_path / f"checkpoint-{best}")
    for name, weight in weights(trainer).items():
        assert torch.equal(weight, kept.get_parameter(name)), name
    assert len(trainer.threshold_history) == (4 if gate == "nll" else 0)
