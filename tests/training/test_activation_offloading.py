"""TRL's activation offloading beside the fused loss, the CPU in the accelerator's place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from tiny_run import assert_same_weights, make_trainer
from trl.models.activation_offloading import get_act_offloading_ctx_manager

LORA = {"peft_config": LoraConfig(r=4, target_modules=["q_proj", "down_proj"])}


class Tracker(dict[int, tuple[Any, ...]]):
    """Where TRL keeps what it took from the graph; counts the copies among it."""

    offloaded = 0

    def __setitem__(self, key: int, value: tuple[Any, ...]) -> None:
        self.offloaded += value[1]
        super().__setitem__(key, value)


@pytest.mark.slow
@pytest.mark.parametrize("sft_arguments", [{}, LORA], ids=["full", "LoRA"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_offloading_changes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    checkpointing: bool,
    sft_arguments: dict[str, Any],
) -> None:
    def make() -> Any:
        settings = {"support": "options", "gradient_accumulation_steps": 2, "cut": 4.0}
        return make_trainer(
            tmp_path, gradient_checkpointing=checkpointing, sft_arguments=sft_arguments, **settings
        )

    ours = make()
    # As `SFTTrainer` builds it, but for pinned memory and streams, which a CPU has not.
    with monkeypatch.context() as patch:
        patch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cpu"))
        # What it calls in each step where bitsandbytes is loaded, and a CPU has not either.
        monkeypatch.setattr(torch.cpu, "empty_cache", lambda: None, raising=False)
        context = get_act_offloading_ctx_manager(
            ours.model, use_pin_memory=False, use_streams=False
        )
    context.tracker = tracker = Tracker()
    ours.maybe_activation_offload_context = context
    ours.train()
    assert tracker.offloaded > 0
    assert not tracker  # the backward pass asked for everything back
    assert ours.runner.fused
    without = make()
    without.train()
    assert_same_weights(ours, without)
