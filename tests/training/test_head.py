"""The door to hidden states and head: adapters, dtypes, wrappers, and what it refuses."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from heads import TINY, assert_both_ways_agree, batch, head_logits, our_way, own_way, tiny_model
from peft import LoraConfig, TrainableTokensConfig, get_peft_model
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from cogcalib.losses import Gate, LinearHead, Penalty, fused_cogcalib_loss
from cogcalib.modeling.final_logits import logit_scale_and_softcap
from cogcalib.training.head import add_head_access, verify_head
from cogcalib.training.linear_head import (
    UnfusableHead,
    call_inside,
    head_parts,
    linear_head,
)

PROJECTIONS = ["q_proj", "v_proj", "down_proj"]


def with_adapter(name: str = "Llama", model_fields: Any = None, **fields: Any) -> Any:
    """A tiny model with LoRA whose B is not zero, so that the adapter does something."""
    fields = {"r": 4, "lora_alpha": 8, "target_modules": PROJECTIONS, **fields}
    with warnings.catch_warnings():  # PEFT warns about adapters on a tied head
        warnings.simplefilter("ignore")
        model = get_peft_model(tiny_model(name, **(model_fields or {})), LoraConfig(**fields))
    return shaken(model)


def shaken(model: Any) -> Any:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model.train()


def summed(hidden: Tensor, head: LinearHead) -> Tensor:
    return head_logits(hidden, head).sum()


ADAPTERS: dict[str, dict[str, Any]] = {
    "body": {},
    "all-linear": {"target_modules": "all-linear"},
    "DoRA": {"use_dora": True},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "head, rank-stabilised": {"target_modules": ["lm_head"], "use_rslora": True},
    "trained head": {"modules_to_save": ["lm_head"]},
    "trained head and embeddings": {"modules_to_save": ["lm_head", "embed_tokens"]},
    "trained tokens": {"trainable_token_indices": [3, 5, 9]},
}


@pytest.mark.parametrize("name", ["Llama", "Gemma2", "Granite"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_adapters(adapter: str, name: str) -> None:
    model = with_adapter(name, **ADAPTERS[adapter])
    add_head_access(model)
    assert verify_head(model) is None
    gradients = assert_both_ways_agree(model, batch())
    assert any("lm_head" in name for name in gradients) == ("head" in adapter)


@pytest.mark.parametrize("adapter", ["body", "head", "trained tokens"])
def test_adapters_of_a_model_with_tied_embeddings(adapter: str) -> None:
    model = with_adapter(model_fields={"tie_word_embeddings": True}, **ADAPTERS[adapter])
    add_head_access(model)
    assert verify_head(model) is None
    assert_both_ways_agree(model, batch())


def test_trained_tokens_of_a_tied_head_are_seen() -> None:
    config = TrainableTokensConfig(token_indices=[3, 5, 9], target_modules=["embed_tokens"])
    with warnings.catch_warnings():  # PEFT warns about adapters on a tied head
        warnings.simplefilter("ignore")
        model = shaken(get_peft_model(tiny_model(tie_word_embeddings=True), config))
    add_head_access(model)
    assert head_parts(model.get_base_model().get_output_embeddings()).tokens is not None
    assert verify_head(model) is None
    assert_both_ways_agree(model, batch())


def test_adapter_on_the_head_switched_off_or_merged() -> None:
    model = with_adapter(**ADAPTERS["head"])
    add_head_access(model)
    with model.disable_adapter():
        assert verify_head(model) is None
    model.merge_adapter()
    assert verify_head(model) is None
    with model.disable_adapter():
        assert "merged and disabled" in str(verify_head(model))


def test_dropout_of_an_adapter_on_the_head_is_drawn_in_training_only() -> None:
    model = with_adapter(target_modules=["lm_head"], lora_dropout=0.5)
    add_head_access(model)
    assert verify_head(model) is None
    inputs = batch()
    first, second = (our_way(model, inputs).result[0] for _ in range(2))
    assert not torch.equal(first, second)
    model.eval()
    torch.testing.assert_close(our_way(model, inputs).result, own_way(model, inputs).result)


def test_access_before_the_adapter_is_added() -> None:
    base = tiny_model()
    add_head_access(base)
    model = shaken(get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "lm_head"])))
    assert verify_head(model) is None
    assert_both_ways_agree(model, batch())


def test_gradient_checkpointing() -> None:
    model = with_adapter()
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    add_head_access(model)
    assert_both_ways_agree(model, batch())


@pytest.mark.parametrize("name", ["Llama", "Gemma2", "Granite"])
def test_bf16(name: str) -> None:
    model = tiny_model(name).bfloat16()
    add_head_access(model)
    assert verify_head(model) is None
    assert_both_ways_agree(model, batch(), tolerance=2e-2)


@pytest.mark.parametrize("name", ["Llama", "Gemma2"])
def test_autocast(name: str) -> None:
    """fp32 weights multiplied in bf16: our numbers carry the same rounding."""
    model = with_adapter(name, target_modules=["q_proj", "lm_head"])
    add_head_access(model)
    dtypes = []

    def loss(hidden: Tensor, head: LinearHead) -> Tensor:
        dtypes.append(head_logits(hidden, head).dtype)
        return hidden.sum()

    with torch.autocast("cpu", torch.bfloat16):
        assert verify_head(model) is None
        assert_both_ways_agree(model, batch(), tolerance=3e-2)
        inputs = batch()
        mask = inputs.pop("labels") != -100
        model(**inputs, at_head=loss, head_positions=mask)
    assert dtypes == [torch.bfloat16]


@pytest.mark.parametrize("adapter", ["body", "head", "trained head"])
def test_the_fused_loss_through_the_door(adapter: str) -> None:
    model = with_adapter("Gemma2", **ADAPTERS[adapter])
    add_head_access(model)
    inputs = batch()
    targets = inputs["labels"][:, 1:]
    targets = targets[targets != -100]

    def loss(hidden: Tensor, head: LinearHead) -> Tensor:
        return fused_cogcalib_loss(
            hidden,
            head,
            targets,
            torch.zeros_like(targets),
            1,
            penalty=Penalty("label_smoothing"),
            alpha=0.0,
            gate=Gate("all"),
        ).loss

    def gradients(value: Tensor) -> dict[str, Tensor]:
        model.zero_grad(set_to_none=True)
        value.backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    own = own_way(model, inputs).result[1] / len(targets)
    ids = {name: value for name, value in inputs.items() if name != "labels"}
    mask = torch.zeros_like(inputs["labels"], dtype=torch.bool)
    mask[:, :-1] = inputs["labels"][:, 1:] != -100
    ours = model(**ids, at_head=loss, head_positions=mask).result
    torch.testing.assert_close(ours, own, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients(ours), gradients(own), rtol=1e-5, atol=1e-6)


def test_no_position_keeps_the_graph() -> None:
    model = tiny_model()
    add_head_access(model)
    inputs = batch()
    mask = torch.zeros_like(inputs.pop("labels"), dtype=torch.bool)
    result = model(**inputs, at_head=summed, head_positions=mask).result
    assert result == 0
    result.backward()


def test_forward_and_generation_stay_as_they_were() -> None:
    model, inputs = tiny_model().eval(), batch()
    ids = inputs["input_ids"][:1]
    settings = {"max_new_tokens": 4, "do_sample": False}
    loss, tokens = model(**inputs).loss, model.generate(ids, **settings)
    add_head_access(model)
    assert model(**inputs).loss == loss
    assert torch.equal(model.generate(ids, **settings), tokens)


def test_hooks_of_the_head_run_and_its_forward_is_restored() -> None:
    """FSDP, ZeRO and activation offloading live in these hooks."""
    model, calls = tiny_model(), []
    add_head_access(model)
    head = model.get_output_embeddings()
    head.register_forward_pre_hook(lambda *_: calls.append("before"))
    head.register_forward_hook(lambda *_: calls.append("after"))
    our_way(model, batch())
    assert calls == ["before", "after"]
    assert "forward" not in vars(head)
    head.forward = partial(nn.Linear.forward, head)  # as accelerate's hooks do
    kept = head.forward
    our_way(model, batch())
    assert head.forward is kept


def test_forward_is_restored_after_an_error() -> None:
    model = tiny_model()
    add_head_access(model)

    def fail(hidden: Tensor, head: LinearHead) -> Tensor:
        raise RuntimeError("stop")

    inputs = batch()
    mask = inputs.pop("labels") != -100
    with pytest.raises(RuntimeError, match="stop"):
        model(**inputs, at_head=fail, head_positions=mask)
    assert "forward" not in vars(model.get_output_embeddings())


def test_call_inside_nests_from_the_outside_in() -> None:
    order: list[str] = []
    modules = [nn.Linear(2, 2), nn.Linear(2, 2)]
    for name, module in zip("ab", modules, strict=True):
        module.register_forward_pre_hook(lambda *_, name=name: order.append(f"{name} in"))
        module.register_forward_hook(lambda *_, name=name: order.append(f"{name} out"))
    assert call_inside(modules, lambda x: x + 1, torch.zeros(1, 2)).sum() == 2
    assert order == ["a in", "b in", "b out", "a out"]


# ---- verify_head ----


class Rescaled(LlamaForCausalLM):
    """An architecture of tomorrow: its forward scales under a name nobody knows yet."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        outputs = super().forward(*args, **kwargs)
        outputs.logits = outputs.logits * self.config.width_multiplier
        return outputs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("factor", [1.05, 0.5])
def test_unknown_scale_is_found(factor: float, dtype: torch.dtype) -> None:
    model = Rescaled(LlamaConfig(**TINY, width_multiplier=factor)).to(dtype)
    add_head_access(model)
    assert verify_head(model) == "its logits are not those of its hidden states and its head"
    model.config.logit_scale = factor
    assert verify_head(model) is None


def test_scale_in_the_configuration_that_the_model_ignores_is_found() -> None:
    model = tiny_model()
    model.config.logit_scale = 3.0
    add_head_access(model)
    assert "not those of its hidden states" in verify_head(model)


@pytest.mark.parametrize("name", ["Mixtral", "Qwen3Moe"])
def test_other_load_balancing_loss_is_found(name: str) -> None:
    model = tiny_model(name)
    original = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        outputs = original(*args, **kwargs)
        outputs.aux_loss = outputs.aux_loss * 2
        return outputs

    model.forward = forward
    add_head_access(model)
    assert verify_head(model) == "its load-balancing loss is computed in a way of its own"


def test_hook_that_changes_the_logits_is_found() -> None:
    model = tiny_model()
    add_head_access(model)

    def double(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return 2 * output

    model.get_output_embeddings().register_forward_hook(double)
    assert "not those of its hidden states" in verify_head(model)


def test_verification_leaves_no_trace() -> None:
    model = with_adapter(lora_dropout=0.3)
    model.get_base_model().model.layers[0].eval()
    add_head_access(model)
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    assert verify_head(model) is None
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())


# ---- What is no fusable head ----


class OwnLinear(nn.Linear):
    """Stands for the quantised layers, which are subclasses too."""


class OwnParameter(nn.Parameter):
    """Stands for the quantised weights."""


def test_refused_heads() -> None:
    quantised = nn.Linear(2, 3)
    quantised.weight = OwnParameter(quantised.weight.data)
    for head, reason in [
        (None, "NoneType, not a plain linear layer"),
        (nn.Sequential(nn.Linear(2, 3)), "Sequential, not a plain"),
        (OwnLinear(2, 3), "OwnLinear, not a plain"),
        (quantised, "weight is a OwnParameter"),
    ]:
        with pytest.raises(UnfusableHead, match=reason):
            head_parts(head)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"use_dora": True}, "'default' on its head is not plain LoRA"),
        ({"lora_bias": True}, "has a bias"),
    ],
)
def test_refused_adapters_on_the_head(fields: dict[str, Any], reason: str) -> None:
    model = with_adapter(target_modules=["lm_head"], model_fields={}, **fields)
    add_head_access(model)
    assert reason in verify_head(model)
    inputs = batch()
    mask = inputs.pop("labels") != -100
    with pytest.raises(UnfusableHead, match=reason):
        model(**inputs, at_head=summed, head_positions=mask)


def test_several_active_adapters_on_the_head_are_refused() -> None:
    model = with_adapter(target_modules=["lm_head"])
    model.add_adapter("other", LoraConfig(r=2, target_modules=["lm_head"]))
    model.base_model.set_adapter(["default", "other"])
    add_head_access(model)
    assert verify_head(model) == "its head has 2 active adapters: ['default', 'other']"


def test_weights_that_are_not_there_are_refused() -> None:
    model = tiny_model()
    model.lm_head.to("meta")
    with pytest.raises(UnfusableHead, match="not whole on this device"):
        linear_head(model, torch.zeros(1, 32))


def test_missing_positions_and_labels_are_refused() -> None:
    model = tiny_model()
    add_head_access(model)
    inputs = batch()
    with pytest.raises(ValueError, match="at_head needs head_positions and takes no labels"):
        model(**inputs, at_head=summed, head_positions=inputs["labels"] != -100)
    del inputs["labels"]
    with pytest.raises(ValueError, match="at_head needs head_positions and takes no labels"):
        model(**inputs, at_head=summed)
    with pytest.raises(UnfusableHead, match="states of shape"):
        model(**inputs, at_head=summed, head_positions=torch.ones(1, 1, dtype=torch.bool))


def test_scale_and_softcap_are_read_as_the_model_means_them() -> None:
    for name, fields, expected in [
        ("Llama", {}, (1.0, None)),
        ("Granite", {"logits_scaling": 8.0}, (0.125, None)),
        ("HyperCLOVAX", {"logits_scaling": 3.0}, (3.0, None)),
        ("Cohere", {"logit_scale": 0.25}, (0.25, None)),
        ("Gemma2", {"final_logit_softcapping": 30.0, "head_dim": 8}, (1.0, 30.0)),
    ]:
        assert logit_scale_and_softcap(tiny_model(name, **fields).config) == expected


# ---- torch.compile ----


@pytest.fixture
def compilable() -> Iterator[Any]:
    torch.compiler.reset()
    yield with_adapter(target_modules=["q_proj", "lm_head"], model_fields={"num_hidden_layers": 1})
    torch.compiler.reset()


def test_backbone_is_compiled_once_and_the_loss_is_not(compilable: Any) -> None:
    """Whatever function is handed in: here a new closure over new targets at every call."""
    add_head_access(compilable)
    graphs: list[Any] = []

    def backend(graph: Any, example_inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(compilable, backend=backend)
    assert verify_head(compiled) is None
    assert not graphs
    our_way(compiled, batch(seed=0))
    assert len(graphs) == 1
    assert "lm_head" not in str(graphs[0].graph)
    for seed in (1, 2, 3):
        ours = our_way(compiled, batch(seed=seed)).result
        torch.testing.assert_close(ours, own_way(compilable, batch(seed=seed)).result)
    assert len(graphs) == 1


@pytest.mark.slow
def test_gradients_of_a_compiled_model(compilable: Any) -> None:
    add_head_access(compilable)
    compiled = torch.compile(compilable, backend="aot_eager")
    assert_both_ways_agree(compiled, batch())
