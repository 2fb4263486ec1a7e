"""A training goes on from a whole checkpoint of the same run; else it says what differs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from test_resume import StopAt
from tiny_run import make_data, make_model, make_rows, make_trainer

from cogcalib.training.checkpoints import last_complete_checkpoint, missing_parts
from cogcalib.training.run_identity import describe
from cogcalib.training.state import STATE_NAME


def run(
    output: Path,
    *,
    stop: int = 0,
    resume: bool | str = False,
    lora: LoraConfig | None = None,
    model: Any = None,
    train: Dataset | None = None,
    calibration: Dataset | None = None,
    **settings: Any,
) -> Any:
    trainer = make_trainer(
        output,
        model=make_model(attention_dropout=0.2) if model is None else model,
        train=train,
        calibration=make_data(24, seed=1) if calibration is None else calibration,
        **{"max_steps": 6, "save_strategy": "steps", "save_steps": 1, **settings},
        sft_arguments={"callbacks": [StopAt(stop)] if stop else [], "peft_config": lora},
    )
    trainer.train(resume_from_checkpoint=resume or None)
    return trainer


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("begun")
    run(output, stop=3)
    return output


@pytest.fixture
def begun(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


@pytest.mark.parametrize(
    "file", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", STATE_NAME]
)
def test_a_checkpoint_that_lacks_a_part(begun: Path, file: str) -> None:
    (begun / "checkpoint-3" / file).unlink()
    assert last_complete_checkpoint(begun, "nll") == str(begun / "checkpoint-2")
    with pytest.raises(ValueError, match=f"checkpoint-3 is no whole checkpoint .*: {file} missing"):
        run(begun, resume=str(begun / "checkpoint-3"))
    for step in (1, 2):
        shutil.rmtree(begun / f"checkpoint-{step}")
    with pytest.raises(ValueError, match=f"has no complete one: checkpoint-3 lacks {file}"):
        run(begun, resume=True)


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt", "rng_state.pth", STATE_NAME])
def test_a_checkpoint_with_a_file_that_was_cut_off(begun: Path, file: str) -> None:
    path = begun / "checkpoint-3" / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert last_complete_checkpoint(begun, "nll") == str(begun / "checkpoint-2")
    assert missing_parts(begun / "checkpoint-3", "nll") == [file]


def test_a_folder_that_is_no_checkpoint(begun: Path) -> None:
    for folder in (begun, begun / "nowhere"):
        with pytest.raises(ValueError, match="is no whole checkpoint of a CogCalibTrainer"):
            run(begun, resume=str(folder))


@pytest.mark.parametrize("gate", ["nll", "none"])
def test_checkpoints_of_weights_alone(tmp_path: Path, gate: str) -> None:
    run(tmp_path, gate=gate, stop=3, save_only_model=True)
    assert last_complete_checkpoint(tmp_path, gate) is None
    lacks = "optimizer.pt, scheduler.pt, rng_state.pth"
    with pytest.raises(ValueError, match=f"has no complete one: checkpoint-3 lacks {lacks}"):
        run(tmp_path, gate=gate, resume=True)
    with pytest.raises(ValueError, match=rf"{lacks} missing or cut .*save_only_model=True"):
        run(tmp_path, gate=gate, resume=str(tmp_path / "checkpoint-3"))


def test_gradients_in_fp16_need_their_scale(begun: Path) -> None:
    trainer = make_trainer(begun, model=make_model(attention_dropout=0.2), max_steps=6)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu")
    with pytest.raises(ValueError, match=r"scaler\.pt missing"):
        trainer.train(resume_from_checkpoint=True)


SETTINGS: list[dict[str, Any]] = [
    {"alpha": 0.4},
    {"seed": 7},
    {"data_seed": 7},
    {"margin_reduction": "sum"},
    {"gamma": 2.0},
    {"gate_temperature": 0.2},
    {"style_steps": 1},
    {"threshold_every": 2},
    {"per_device_train_batch_size": 4},
    {"gradient_accumulation_steps": 2},
    {"train_sampling_strategy": "group_by_length"},
    {"learning_rate": 1e-3},
    {"lr_scheduler_type": "cosine"},
    {"warmup_steps": 2},
    {"weight_decay": 0.1},
    {"max_grad_norm": 0.5},
    {"optim": "sgd"},
    {"adam_beta2": 0.95},
    {"neftune_noise_alpha": 5.0},
    {"bf16": True},
]


@pytest.mark.parametrize("changed", SETTINGS, ids=lambda each: next(iter(each)))
def test_another_argument_is_refused(begun: Path, changed: dict[str, Any]) -> None:
    ledger = sorted((begun / "ledger").iterdir())
    (name,) = changed
    with pytest.raises(
        ValueError, match=f"checkpoint-3 was trained with {name}=.* go on with {name}"
    ):
        run(begun, resume=True, **changed)
    assert sorted((begun / "ledger").iterdir()) == ledger


def reordered() -> Dataset:
    rows = make_rows(32)
    return Dataset.from_list([*rows[1:], rows[0]])


def another_option() -> Dataset:
    return Dataset.from_list([{**row, "options": row["options"][::-1]} for row in make_rows(32)])


@pytest.mark.parametrize(
    "train", [make_data(31), make_data(32, seed=5), reordered(), another_option()]
)
def test_other_training_data_are_refused(begun: Path, train: Dataset) -> None:
    with pytest.raises(ValueError, match="trained with train_dataset='32 rows, hash"):
        run(begun, resume=True, train=train)


@pytest.mark.parametrize("calibration", [make_data(24, seed=9), make_data(25, seed=1)])
def test_other_calibration_data_are_refused(begun: Path, calibration: Dataset) -> None:
    with pytest.raises(ValueError, match="trained with calibration_dataset='24 rows, hash"):
        run(begun, resume=True, calibration=calibration)


def test_other_dropout_is_refused(begun: Path) -> None:
    with pytest.raises(ValueError, match="trained with dropout="):
        run(begun, resume=True, model=make_model(attention_dropout=0.1))


def test_another_adapter_or_base_is_refused(tmp_path: Path) -> None:
    def lora(**settings: Any) -> LoraConfig:
        return LoraConfig(**{"r": 4, "target_modules": ["q_proj"], "lora_alpha": 8, **settings})

    run(tmp_path, lora=lora(), stop=3)
    for changed in ({"lora_alpha": 16}, {"lora_dropout": 0.2}, {"use_rslora": True}):
        with pytest.raises(ValueError, match="trained with adapter="):
            run(tmp_path, lora=lora(**changed), resume=True)
    with pytest.raises(ValueError, match="trained with frozen weights="):
        run(tmp_path, lora=lora(), resume=True, model=make_model(seed=3, attention_dropout=0.2))
    assert run(tmp_path, lora=lora(), resume=True).state.global_step == 6


@pytest.mark.parametrize("changed", ["train", "seed", "optimizer.pt"])
def test_plain_fine_tuning_is_held_to_it_too(tmp_path: Path, changed: str) -> None:
    run(tmp_path, gate="none", stop=3)
    if changed == "train":
        with pytest.raises(ValueError, match="train_dataset='32 rows"):
            run(tmp_path, gate="none", resume=True, train=make_data(30))
    elif changed == "seed":
        with pytest.raises(ValueError, match="trained with seed=42, and would go on with seed=1"):
            run(tmp_path, gate="none", resume=True, seed=1)
    else:
        (tmp_path / "checkpoint-3" / changed).unlink()
        with pytest.raises(ValueError, match=r"optimizer\.pt missing"):
            run(tmp_path, gate="none", resume=str(tmp_path / "checkpoint-3"))
    # What plain fine-tuning does not read may change.
    run(tmp_path, gate="none", resume=True, alpha=0.9, margin=3.0, calibration=make_data(9, seed=4))


def test_what_does_not_reach_the_training_may_change(begun: Path) -> None:
    trainer = run(
        begun,
        resume=True,
        logging_steps=2,
        save_steps=3,
        gradient_checkpointing=True,
        per_device_eval_batch_size=3,
        train=make_data(32).add_column("note", ["x"] * 32),
    )
    assert trainer.state.global_step == 6


def test_a_longer_training_is_warned_of(begun: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(begun, resume=True, max_steps=8)
    assert "training of 6 steps, which goes on to 8" in caplog.text


def test_a_checkpoint_of_an_older_version_is_compared_by_what_it_says(begun: Path) -> None:
    path = begun / "checkpoint-3" / STATE_NAME
    state = json.loads(path.read_text())
    state["method"] = {"gate": "nll", "penalty": "label_smoothing"}
    path.write_text(json.dumps(state))
    with pytest.raises(ValueError, match="with penalty='label_smoothing', and would go"):
        run(begun, resume=True, penalty="margin")
    run(begun, resume=True)


def test_the_description_of_data() -> None:
    def rows(*ids: list[int], **columns: Any) -> str:
        return describe(Dataset.from_dict({"input_ids": ids, "labels": ids, **columns}))

    assert rows([1, 2], [3]) == rows([1, 2], [3]) != rows([1], [2, 3])
    assert rows([1], known=[True]) != rows([1], known=[False]) != rows([1])
    assert rows([1], option_ids=[[1, 2]]) != rows([1], option_ids=[[1, 3]])
    assert rows([1], option_ids=[None]) == rows([1], option_ids=[None])
    assert rows([1], known=["Unknown"]) != rows([1], known=["HighlyKnown"])
    assert rows([1], example_id=["x"]) == rows([1])
    several = Dataset.from_dict({"input_ids": [[1], [2]], "labels": [[1], [2]]})
    assert describe(several.select([1, 0])) == rows([2], [1])
