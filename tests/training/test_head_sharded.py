"""However the head is sharded, the door gives what it gives without; two processes slowly."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from heads import batch, our_way, own_way, tiny_model
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from cogcalib.training.head import add_head_access, verify_head

MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "Llama": ("Llama", {}, {}),
    "tied": ("Llama", {"tie_word_embeddings": True}, {}),
    "Mixtral": ("Mixtral", {"num_local_experts": 4, "output_router_logits": True}, {}),
    "LoRA on the head": ("Gemma2", {"head_dim": 8}, {"target_modules": ["q_proj", "lm_head"]}),
    "trained head": ("Llama", {}, {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
}
WRAPPERS = ["DDP", "root", "tail", "alone", "leaves"]
ON_TWO_PROCESSES = [
    ("Llama", "tail"),
    ("tied", "tail"),
    ("Mixtral", "DDP"),
    ("LoRA on the head", "leaves"),
    ("trained head", "alone"),
]


def build(name: str) -> Any:
    architecture, fields, adapter = MODELS[name]
    model = tiny_model(architecture, **fields)
    if adapter:
        with warnings.catch_warnings():  # PEFT warns about an adapter on a tied head
            warnings.simplefilter("ignore")
            model = get_peft_model(model, LoraConfig(r=4, init_lora_weights=False, **adapter))
    add_head_access(model)
    return model.train()


def wrap(model: Any, wrapper: str) -> Any:
    """The head in the unit of the whole model, with the norm as accelerate has it, or alone."""
    if wrapper == "DDP":
        return DistributedDataParallel(model)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    mesh = dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
    head, embeddings = base.get_output_embeddings(), base.get_input_embeddings()
    tied = base.config.tie_word_embeddings
    if wrapper == "leaves":  # PEFT's policy: each linear layer of an adapter
        for name, module in model.named_modules():
            if type(module) is nn.Linear and "lora_" in name:
                fully_shard(module, mesh=mesh)
    for layer in base.model.layers:
        fully_shard(layer, mesh=mesh)
    if wrapper == "tail":
        units = [base.model.norm, *([embeddings] if tied else []), head]
        fully_shard(units, mesh=mesh, reshard_after_forward=False)
    if wrapper == "alone" and not tied:
        fully_shard(head, mesh=mesh, reshard_after_forward=True)
    return fully_shard(model, mesh=mesh)


def gradients(model: nn.Module, seed: int) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    answer = our_way(model, batch(seed=seed))
    loss = answer.result[1]
    (loss if answer.aux_loss is None else loss + 0.1 * answer.aux_loss).backward()
    return {
        name.removeprefix("module."): whole(parameter.grad).clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def compare_on_rank(rank: int, port: int, found: Path) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    differences = {}
    for name, wrapper in ON_TWO_PROCESSES:
        alone = build(name)
        each = [gradients(alone, seed) for seed in (0, 1)]
        expected = {key: (each[0][key] + each[1][key]) / 2 for key in each[0]}
        assert any((each[0][key] != each[1][key]).any() for key in expected)
        model = wrap(build(name), wrapper)
        reason = verify_head(model)
        ours = gradients(model, rank)
        assert ours.keys() == expected.keys()
        worst = max(float((ours[key] - expected[key]).abs().max()) for key in expected)
        differences[name, wrapper] = (reason, worst)
    torch.save(differences, found / f"rank-{rank}.pt")
    dist.destroy_process_group()


def bf16_difference() -> tuple[str | None, float]:
    """FSDP2's mixed precision: fp32 weights gathered in bf16."""
    model = build("Llama")
    mesh = dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
    fully_shard(model.lm_head, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    ours, own = our_way(model, batch()).result[0], own_way(model, batch()).result[0]
    assert ours.dtype == own.dtype == torch.bfloat16
    return verify_head(model), float(((ours - own).abs().max() / own.abs().max()).detach())


@pytest.fixture(scope="module")
def process() -> Iterator[None]:
    """A group of one process: sharded classes, hooks and DTensors, without the waiting."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", MODELS)
def test_gradients_equal_those_without_wrapper(name: str, wrapper: str) -> None:
    expected = gradients(build(name), 0)
    model = wrap(build(name), wrapper)
    assert verify_head(model) is None
    for _ in range(2):  # the second step meets what the first left behind
        torch.testing.assert_close(gradients(model, 0), expected)


@pytest.mark.usefixtures("process")
def test_mixed_precision_of_fsdp() -> None:
    reason, worst = bf16_difference()
    assert reason is None
    assert worst < 0.02


@pytest.mark.slow
def test_gradients_equal_those_of_one_process(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    torch.multiprocessing.spawn(compare_on_rank, (port, tmp_path), nprocs=2)
    for rank in (0, 1):
        differences = torch.load(tmp_path / f"rank-{rank}.pt", weights_only=False)
        for reason, worst in differences.values():
            assert reason is None
            assert worst < 1e-5
