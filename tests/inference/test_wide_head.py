"""Logits of half-precision models: in float32, and the model as it was afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from cogcalib.inference import wide_head as room
from cogcalib.inference.logits import LogitReader, forward, inference
from cogcalib.inference.wide_head import wide_head

SIZE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
ROWS = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]


def make(dtype: torch.dtype, **config: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = LlamaForCausalLM(
        LlamaConfig(**SIZE, initializer_range=0.2, **config)
    ).to(dtype)
    return model.eval()


def read(model: PreTrainedModel) -> torch.Tensor:
    with inference(model):
        return LogitReader(model, ROWS, [1, 1, 2], 0, share=False).logits(range(3))


def hidden_states(model: PreTrainedModel) -> torch.Tensor:
    """At the positions that are read, in the model's own dtype."""
    with torch.no_grad():
        ids = torch.tensor([[*row, *[0] * (4 - len(row))] for row in ROWS])
        last = model.model(input_ids=ids).last_hidden_state
    return last[[0, 1, 2, 2], [3, 1, 1, 2]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("columns", [8192, 128])
def test_logits_are_those_of_the_head_in_float64(
    dtype: torch.dtype, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "COLUMNS", columns)
    model = make(dtype)
    exact = hidden_states(model).double() @ model.lm_head.weight.double().t()
    found = read(model)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=1e-6)
    rounded = (hidden_states(model) @ model.lm_head.weight.t()).double()
    assert (rounded - exact).abs().max() > 1e-3


def test_the_model_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(torch.bfloat16)
    ids = torch.tensor([[5, 6, 7]])
    before = model(input_ids=ids).logits
    read(model)
    assert "forward" not in model.lm_head.__dict__
    assert torch.equal(model(input_ids=ids).logits, before)
    with pytest.raises(RuntimeError, match="inside"), wide_head(model):
        raise RuntimeError("inside")
    assert "forward" not in model.lm_head.__dict__


def test_generation_reads_them_too() -> None:
    model = make(torch.bfloat16)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        found = forward(model, ids, torch.ones_like(ids), 1).logits[0, -1]
        last = model.model(input_ids=ids).last_hidden_state[0, -1]
    assert found.dtype == torch.float32
    exact = last.double() @ model.lm_head.weight.double().t()
    torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=1e-6)


def test_what_comes_after_the_head_is_done_in_float32() -> None:
    """Gemma's scale and cap of the logits, tied weights, an adapter on the body."""
    torch.manual_seed(0)
    base = GemmaForCausalLM(GemmaConfig(**SIZE, head_dim=16, initializer_range=0.2)).bfloat16()
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj"])).eval()
    found = read(model)
    with torch.no_grad():
        ids = torch.tensor([[5, 6, 7, 8]])
        last = base.model(input_ids=ids).last_hidden_state[0, -1]
    exact = last.double() @ base.lm_head.weight.double().t()
    torch.testing.assert_close(found[0].double(), exact, atol=1e-4, rtol=1e-5)


def test_a_model_in_float32_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_product", lambda *_: pytest.fail("replaced"))
    read(make(torch.float32))


def test_a_head_with_an_adapter_is_left_alone() -> None:
    config = LoraConfig(r=4, target_modules=["q_proj", "lm_head"])
    model = get_peft_model(make(torch.bfloat16), config).eval()
    assert read(model).dtype == torch.float32


def test_they_can_be_differentiated() -> None:
    """As Laplace does, by the hidden states."""
    hidden = torch.randn(2, 8).bfloat16().requires_grad_()
    weight, bias = torch.randn(5, 8).bfloat16(), torch.randn(5).bfloat16()
    with torch.no_grad():
        expected = room._product(hidden, weight, bias)
    found = room._product(hidden, weight, bias)
    torch.testing.assert_close(found, expected)
    (slope,) = torch.autograd.grad(found.sum(), hidden)
    torch.testing.assert_close(slope, weight.float().sum(0).bfloat16().expand(2, 8))


@torch.no_grad()
def test_a_bias_is_added() -> None:
    hidden, weight, bias = (
        torch.randn(2, 3, 8).bfloat16(),
        torch.randn(5, 8).bfloat16(),
        torch.randn(5),
    )
    found = room._product(hidden, weight, bias)
    assert found.shape == (2, 3, 5)
    torch.testing.assert_close(found, hidden.float() @ weight.float().t() + bias)
