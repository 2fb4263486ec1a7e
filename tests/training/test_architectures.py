"""Every architecture through the door: the same logits, gradients and load-balancing loss."""

from __future__ import annotations

from typing import Any

import pytest
from heads import assert_both_ways_agree, batch, tiny_model
from trl.trainer.utils import add_fused_lm_head

from cogcalib.training.head import add_head_access, verify_head

EXPERTS = {"router_aux_loss_coef": 0.1, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
MAMBA = {"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8}

DENSE: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Llama4": {"config_class": "Llama4TextConfig", "head_dim": 8, "intermediate_size_mlp": 48},
    "Mistral": {"sliding_window": 4},
    "Qwen2": {},
    "Qwen3": {"head_dim": 8},
    "Gemma2": {"head_dim": 8, "final_logit_softcapping": 0.5},
    "Gemma3": {
        "config_class": "Gemma3TextConfig",
        "head_dim": 8,
        "final_logit_softcapping": 0.5,
    },
    "NanoChat": {"final_logit_softcapping": 0.5},
    "Granite": {"logits_scaling": 8.0},
    "HyperCLOVAX": {"logits_scaling": 3.0},
    "Cohere": {"logit_scale": 0.25},
    "FalconH1": {"lm_head_multiplier": 0.5, "head_dim": 8, **MAMBA},
    "GPTNeoX": {},
    "GPT2": {},
    "Phi": {},  # a bias on the head
    "Phi3": {},
    "Olmo2": {},
    "Mamba": {},
}

MIXTURES: dict[str, dict[str, Any]] = {
    "Mixtral": {"num_local_experts": 4},
    "Qwen2Moe": {"num_experts": 4, "shared_expert_intermediate_size": 16},
    "Qwen3Moe": {"num_experts": 4, "head_dim": 8},
    "Olmoe": {"num_experts": 4},
    "GptOss": {"num_local_experts": 4, "head_dim": 8},
    "GraniteMoe": {"num_local_experts": 4, "logits_scaling": 4.0},
}


@pytest.mark.parametrize("name", DENSE)
def test_dense_model(name: str) -> None:
    model = tiny_model(name, **DENSE[name])
    add_head_access(model)
    assert verify_head(model) is None
    assert_both_ways_agree(model, batch())


@pytest.mark.parametrize("name", MIXTURES)
def test_mixture_of_experts(name: str) -> None:
    model = tiny_model(name, **EXPERTS, **MIXTURES[name])
    add_head_access(model)
    assert verify_head(model) is None
    gradients = assert_both_ways_agree(model, batch(), output_router_logits=True)
    assert any("gate" in name or "router" in name for name in gradients)


def test_load_balancing_follows_the_configuration() -> None:
    """Asked for in the configuration alone, and not asked for."""
    model = tiny_model("Mixtral", **EXPERTS, **MIXTURES["Mixtral"])
    add_head_access(model)
    assert_both_ways_agree(model, batch())
    model.config.output_router_logits = True
    assert_both_ways_agree(model, batch())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["Llama", "Gemma2", "Cohere", "GPTNeoX"])
def test_tied_embeddings(name: str, tied: bool) -> None:
    model = tiny_model(name, **DENSE[name], tie_word_embeddings=tied)
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
    add_head_access(model)
    assert verify_head(model) is None
    assert_both_ways_agree(model, batch())


@pytest.mark.parametrize("name", ["Llama", "Gemma2", "Granite", "Mixtral"])
def test_beside_the_patch_of_trl(name: str) -> None:
    model = tiny_model(name, **DENSE.get(name, MIXTURES.get(name, {})))
    add_fused_lm_head(model)
    inputs = batch()
    before = model(**inputs, fused_lm_head=True).loss
    add_head_access(model)
    assert model(**inputs, fused_lm_head=True).loss == before
    assert verify_head(model) is None
    assert_both_ways_agree(model, inputs)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ModernBertDecoder", "not those of its hidden states"),  # a layer before the head
        ("Doge", "routers do not return one logit per expert"),
    ],
)
def test_what_a_fused_loss_cannot_compute_is_found(name: str, reason: str) -> None:
    fields = {"is_moe": True, "num_experts": 16, "num_experts_per_tok": 2} if name == "Doge" else {}
    model = tiny_model(name, **fields)
    add_head_access(model)
    assert reason in verify_head(model)
