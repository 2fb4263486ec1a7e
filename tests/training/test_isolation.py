"""Models whose examples see each other in one row are refused, the others train as they should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import assert_same_weights, make_data, make_model, make_trainer
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    Gemma3TextConfig,
    GPT2Config,
    MixtralConfig,
    OPTConfig,
    Qwen3Config,
)

SMALL: dict[str, Any] = {
    "vocab_size": 56,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
GATED: dict[str, Any] = {**SMALL, "intermediate_size": 48, "num_key_value_heads": 1}


def build(config: Any, **settings: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, **settings)


@pytest.mark.parametrize(
    "config",
    [
        BloomConfig(**{**SMALL, "n_layer": 2, "n_head": 2}),
        FalconConfig(**SMALL),
        OPTConfig(**SMALL, ffn_dim=48, max_position_embeddings=64, word_embed_proj_dim=32),
    ],
    ids=lambda config: config.model_type,
)
@pytest.mark.parametrize("gate", ["nll", "none"])
def test_attention_across_examples_is_refused(tmp_path: Path, config: Any, gate: str) -> None:
    model = build(config, attn_implementation="eager")
    settings = {"padding_free": True, "max_length": None, "gate": gate}
    trainer = make_trainer(tmp_path, model=model, **settings)
    with pytest.raises(ValueError, match="examples in one row see each other"):
        trainer.train()


def test_it_is_refused_in_an_evaluation_too(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, model=build(FalconConfig(**SMALL)), packing=True)
    with pytest.raises(ValueError, match="examples in one row see each other"):
        trainer.evaluate(make_data(4, seed=5))


def test_without_merging_nothing_is_refused(tmp_path: Path) -> None:
    make_trainer(tmp_path, model=build(FalconConfig(**SMALL)), max_steps=1).train()


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(
            vocab_size=56,
            n_embd=32,
            n_layer=2,
            n_head=2,
            n_positions=64,
            bos_token_id=None,
            eos_token_id=1,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        ),
        Gemma3TextConfig(**GATED, head_dim=16, sliding_window=4),
        Qwen3Config(**GATED, head_dim=16),
        MixtralConfig(**GATED, num_local_experts=4, router_aux_loss_coef=0.0),
    ],
    ids=lambda config: config.model_type,
)
def test_other_architectures_train_as_with_padding(tmp_path: Path, config: Any) -> None:
    settings = {"cut": 4.0, "max_steps": 1, "optim": "sgd", "max_grad_norm": 0.0}
    settings |= {"learning_rate": 1.0, "per_device_train_batch_size": 32}
    padded = make_trainer(tmp_path, model=build(config), **settings)
    packed = make_trainer(tmp_path, model=build(config), packing=True, max_length=60, **settings)
    padded.train()
    packed.train()
    assert_same_weights(padded, packed, tolerance=5e-6)


def test_trying_leaves_no_trace(tmp_path: Path) -> None:
    model = make_model(attention_dropout=0.3)
    trainer = make_trainer(tmp_path, model=model, padding_free=True, max_length=None)
    trainer.model.train()
    before = torch.get_rng_state()
    trainer._check_isolation(trainer.model)
    assert torch.equal(torch.get_rng_state(), before)
    assert trainer.model.training
    assert all(p.grad is None for p in trainer.model.parameters())


@pytest.mark.parametrize("settings", [{"bf16": True}, {"model": "half"}])
def test_half_precision_passes(tmp_path: Path, settings: dict[str, Any]) -> None:
    if settings.get("model") == "half":
        settings = {"model": make_model().to(torch.bfloat16)}
    trainer = make_trainer(tmp_path, packing=True, max_length=64, max_steps=1, **settings)
    trainer.train()
    assert trainer._isolation_checked
