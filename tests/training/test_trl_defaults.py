"""What TRL decides by itself must not fail on a laptop, nor warn of what is not the user's."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState
from peft import LoraConfig
from tiny_run import make_data, make_model, make_tokenizer, make_trainer

from cogcalib.modeling import adapters
from cogcalib.training import CogCalibConfig, CogCalibTrainer, trl_defaults
from cogcalib.training.logs import get_logger

needs_no_gpu = pytest.mark.skipif(torch.accelerator.is_available(), reason="needs no accelerator")


@needs_no_gpu
def test_a_machine_without_bf16_needs_no_word(tmp_path: Path) -> None:
    args = CogCalibConfig(output_dir=str(tmp_path))
    assert (args.bf16, args.fp16, args.use_cpu) == (False, False, False)
    assert CogCalibConfig(str(tmp_path), fp16=True).fp16


@needs_no_gpu
def test_what_was_said_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="doesn't support bf16/gpu"):
        CogCalibConfig(str(tmp_path), bf16=True)
    assert CogCalibConfig(str(tmp_path), bf16=True, use_cpu=True).bf16
    assert CogCalibConfig(str(tmp_path), use_cpu=True).bf16, "as TRL has it"
    assert not CogCalibConfig(str(tmp_path), bf16=False).bf16


def test_a_device_that_knows_bf16_computes_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (trl_defaults, "transformers.training_args"):
        name = module if isinstance(module, str) else module.__name__
        monkeypatch.setattr(f"{name}.is_torch_bf16_gpu_available", lambda: True)
    assert CogCalibConfig(str(tmp_path)).bf16


@pytest.mark.parametrize("given", [{}, {"gradient_checkpointing": False}, {"use_cpu": True}])
def test_the_old_name_of_checkpointing_is_not_told_to_users(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        args = CogCalibConfig(str(tmp_path), **given)
    assert args.gradient_checkpointing == given.get("gradient_checkpointing", True)
    assert args.activation_checkpointing == args.gradient_checkpointing


def test_the_new_name_comes_first(tmp_path: Path) -> None:
    args = CogCalibConfig(str(tmp_path), activation_checkpointing=False)
    assert args.gradient_checkpointing is False


@needs_no_gpu
def test_a_first_run_is_without_warnings(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer = CogCalibTrainer(
            make_model(),
            CogCalibConfig(
                str(tmp_path / "out"), max_steps=1, style_steps=0, report_to="none",
                disable_tqdm=True,
            ),
            make_data(16),
            make_data(16, seed=1),
            processing_class=make_tokenizer(),
            peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]),
        )  # fmt: skip
        trainer.train()
        trainer.save_model()
        adapters.with_adapter(make_model(), str(tmp_path / "out"))


@pytest.mark.parametrize(("processes", "said"), [(1, "a word"), (2, "[RANK 0] a word")])
def test_the_rank_is_named_where_there_are_several(
    processes: int, said: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    PartialState()
    monkeypatch.setitem(PartialState._shared_state, "num_processes", processes)
    with caplog.at_level(logging.WARNING, logger="cogcalib"):
        get_logger("cogcalib.training.here").warning("a %s", "word")
    assert caplog.messages == [said]
    assert caplog.records[0].filename == Path(__file__).name


def test_the_trainer_s_own_words_bear_no_rank(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_trainer(tmp_path)
    assert any("a threshold estimated on fewer than" in line for line in caplog.messages)
    assert "[RANK" not in caplog.text
