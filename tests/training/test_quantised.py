"""LoRA on a body in 4 or 8 bits (QLoRA): the fused loss reads the head that was left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from tiny_run import largest_difference, make_model, make_trainer, weights
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaForCausalLM

bitsandbytes = pytest.importorskip("bitsandbytes", reason="needs bitsandbytes (extra 4bit)")

BITS: dict[str, tuple[dict[str, Any], type[nn.Module]]] = {
    "4": (
        {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_compute_dtype": torch.float32,
        },
        bitsandbytes.nn.Linear4bit,
    ),
    "8": ({"load_in_8bit": True}, bitsandbytes.nn.Linear8bitLt),
}


@pytest.mark.parametrize("bits", BITS)
def test_qlora_trains_as_the_readable_loss_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: str
) -> None:
    settings, layer = BITS[bits]
    config = make_model().config
    # bitsandbytes' kernel for CPUs wants rows of whole blocks of 64 weights, and 32 of them
    config.hidden_size, config.intermediate_size, config.head_dim = 64, 64, 32
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")

    def trained() -> Any:
        model = AutoModelForCausalLM.from_pretrained(
            tmp_path / "model", quantization_config=BitsAndBytesConfig(**settings)
        )
        for module in model.modules():  # what packs for a kernel without backward pass is refused
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
        assert isinstance(model.model.layers[0].mlp.down_proj, layer)
        assert type(model.lm_head) is nn.Linear
        torch.manual_seed(0)  # of the adapters
        adapters = LoraConfig(r=4, target_modules=["q_proj", "down_proj"])
        trainer = make_trainer(
            tmp_path,
            model=model,
            cut=4.2,
            optim="sgd",
            learning_rate=0.5,
            sft_arguments={"peft_config": adapters},
        )
        trainer.train()
        return trainer

    fused = trained()
    assert fused.runner.fused
    assert 0 < fused.state.log_history[0]["gate_rate"] < 1
    adapters = {name: value for name, value in weights(fused).items() if "lora_B" in name}
    assert all(value.count_nonzero() for value in adapters.values())
    monkeypatch.setattr("cogcalib.training.loss.verify_head", lambda *_: "it is made up")
    readable = trained()
    assert not readable.runner.fused
    assert largest_difference(fused, readable) < 1e-5
