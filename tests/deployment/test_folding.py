"""A temperature in the weights: log-probabilities are log_softmax(logits / T), or it is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from cogcalib.deployment.folding import UnfoldableError, fold_temperature, probe_logits

FIELDS = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GEMMA = {"head_dim": 8}
GEMMA3 = {**GEMMA, "config_class": "Gemma3TextConfig"}
TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}

# Architecture, fields, module that carries the temperature, softcap.
FOLDED = [
    ("Llama", UNTIED, "model.norm", ""),
    ("Llama", TIED, "model.norm", ""),
    ("Mistral", UNTIED, "model.norm", ""),
    ("Mistral", TIED, "model.norm", ""),
    ("Qwen2", UNTIED, "model.norm", ""),
    ("Qwen2", TIED, "model.norm", ""),
    ("Gemma", TIED, "model.norm", ""),
    ("Gemma2", {**GEMMA, "final_logit_softcapping": 3.0}, "model.norm", "final_logit_softcapping"),
    ("Gemma3", {**GEMMA3, **TIED}, "model.norm", ""),
    ("Gemma3", {**GEMMA3, **UNTIED}, "model.norm", ""),
    ("Gemma3", {**GEMMA3, "final_logit_softcapping": 3.0}, "model.norm", "final_logit_softcapping"),
    ("GPTNeoX", UNTIED, "gpt_neox.final_layer_norm", ""),
    ("GPTNeoX", TIED, "gpt_neox.final_layer_norm", ""),
    ("GPT2", {}, "transformer.ln_f", ""),
    ("Phi", {}, "model.final_layernorm", ""),  # its head has a bias
    ("OPT", {}, "model.decoder.final_layer_norm", ""),
    ("Mamba", {}, "backbone.norm_f", ""),
    ("Cohere", {"logit_scale": 0.3}, "model.norm", ""),
    ("Granite", {"logits_scaling": 3.0}, "model.norm", ""),
    ("FalconH1", {"lm_head_multiplier": 0.5}, "model.final_layernorm", ""),
    ("RecurrentGemma", {"logits_soft_cap": 3.0}, "model.final_norm", "logits_soft_cap"),
    # Norms without weights, heads apart from the embeddings.
    ("Olmo", UNTIED, "lm_head", ""),
    ("NanoChat", {"final_logit_softcapping": 3.0}, "lm_head", "final_logit_softcapping"),
]


def tiny(name: str, fields: Any, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A random model whose norms and biases are none of one or zero."""
    fields = dict(fields)
    config = getattr(transformers, fields.pop("config_class", f"{name}Config"))
    heads = (f"{name}ForCausalLM", f"{name}LMHeadModel")
    torch.manual_seed(0)
    kind = next(getattr(transformers, head) for head in heads if hasattr(transformers, head))
    model: PreTrainedModel = kind(config(**{**FIELDS, **fields})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.to(dtype)


def logits_of(model: PreTrainedModel) -> torch.Tensor:
    """On other tokens than the fold was checked on, in float64."""
    ids = torch.randint(3, 64, (3, 20), generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    return logits.double()


@pytest.mark.parametrize("temperature", [1.7, pytest.param(0.4, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("name", "fields", "place", "softcap"), FOLDED)
def test_log_probabilities_are_those_of_the_temperature(
    name: str, fields: Any, place: str, softcap: str, temperature: float, tmp_path: Path
) -> None:
    model = tiny(name, fields)
    before = logits_of(model)
    wanted = (before / temperature).log_softmax(-1)
    assert (before.log_softmax(-1) - wanted).abs().max() > 0.1
    folded = fold_temperature(model, temperature)
    assert (folded.place, folded.softcap) == (place, softcap)
    assert folded.difference <= 1e-4
    assert (logits_of(model).log_softmax(-1) - wanted).abs().max() <= 1e-4
    # What is saved is what was folded: weights, configuration, ties.
    model.save_pretrained(tmp_path)
    read = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert (logits_of(read).log_softmax(-1) - wanted).abs().max() <= 1e-4


@given(st.floats(0.05, 20))
@settings(deadline=None, max_examples=25)
def test_any_temperature_that_can_be_fitted(temperature: float) -> None:
    model = tiny("Gemma2", {**GEMMA, "final_logit_softcapping": 3.0})
    wanted = (logits_of(model) / temperature).log_softmax(-1)
    fold_temperature(model, temperature)
    assert (logits_of(model).log_softmax(-1) - wanted).abs().max() <= max(1e-4, 1e-5 / temperature)


def test_two_folds_are_one_of_their_product() -> None:
    model = tiny("Gemma3", {**GEMMA3, "final_logit_softcapping": 3.0})
    wanted = (logits_of(model) / (1.5 * 1.2)).log_softmax(-1)
    fold_temperature(model, 1.5)
    fold_temperature(model, 1.2)
    assert (logits_of(model).log_softmax(-1) - wanted).abs().max() <= 1e-4
    assert model.config.final_logit_softcapping == pytest.approx(3.0 / 1.8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "fields", "place", "softcap"),
    [each for each in FOLDED if each[0] in ("Llama", "Gemma2", "GPTNeoX", "Phi", "Cohere", "Olmo")],
)
def test_half_precision_is_checked_in_float32(
    name: str, fields: Any, place: str, softcap: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    """Read in float32, a model folded in half precision is exact but for a head's own rounding."""
    tiny(name, fields, dtype).save_pretrained(tmp_path / "before")
    load = AutoModelForCausalLM.from_pretrained
    wanted = (logits_of(load(tmp_path / "before", dtype=torch.float32)) / 1.7).log_softmax(-1)
    model = load(tmp_path / "before", dtype=dtype)
    folded = fold_temperature(model, 1.7)
    assert (folded.place, folded.softcap) == (place, softcap)
    assert folded.difference <= 1e-4
    model.save_pretrained(tmp_path / "after")
    read = load(tmp_path / "after", dtype=torch.float32)
    tolerance = 1e-4 if place != "lm_head" else 0.1
    assert (logits_of(read).log_softmax(-1) - wanted).abs().max() <= tolerance


def test_the_head_of_norms_without_weights_is_refused_where_it_is_the_embeddings() -> None:
    model = tiny("Olmo", TIED)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UnfoldableError, match="no weights behind its last norm"):
        fold_temperature(model, 1.7)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


class Bent(nn.Module):
    """Logits that no factor goes through, as an architecture to come may have them."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.inner = model.model.norm

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.sin(3 * self.inner(hidden))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_does_not_scale_is_refused_and_left_as_it_was(dtype: torch.dtype) -> None:
    model = tiny("Gemma2", {**GEMMA, "final_logit_softcapping": 3.0}, dtype)
    model.model.norm = Bent(model)
    before, state = logits_of(model), {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(UnfoldableError, match=r"Gemma2ForCausalLM do not scale .* nats away"):
        fold_temperature(model, 1.7)
    assert torch.equal(logits_of(model), before)
    after = model.state_dict()
    assert all(torch.equal(after[k], v) and after[k].dtype == v.dtype for k, v in state.items())
    assert model.config.final_logit_softcapping == 3.0


def test_a_softcap_that_the_model_copied_is_refused() -> None:
    """The configuration would change and the model would not."""
    model = tiny("Gemma2", {**GEMMA, "final_logit_softcapping": 3.0})
    model.config.final_logit_softcapping = None
    head = model.lm_head
    head.register_forward_hook(lambda module, inputs, out: 3.0 * torch.tanh(out / 3.0))
    with pytest.raises(UnfoldableError, match="do not scale"):
        fold_temperature(model, 1.7)


def test_a_head_that_is_no_linear_layer_is_refused() -> None:
    model = tiny("Llama", UNTIED)
    model.set_output_embeddings(nn.Sequential(model.lm_head))
    with pytest.raises(UnfoldableError, match="its head is a Sequential"):
        fold_temperature(model, 1.7)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_that_is_none_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be positive and finite"):
        fold_temperature(tiny("Llama", UNTIED), temperature)


def test_the_shipped_model_folds_in_the_format_it_is_stored_in() -> None:
    from cogcalib.modeling import load_model

    exact, _ = load_model("atlas")
    wanted = (probe_logits(exact) / 1.7).log_softmax(-1)
    model, _ = load_model("atlas", dtype="float16")
    assert fold_temperature(model, 1.7).difference <= 1e-4
    assert model.model.norm.weight.dtype == torch.float32
    assert (probe_logits(model.float()).log_softmax(-1) - wanted).abs().max() <= 1e-4
