"""A temperature put into a model's weights, so that any program serves calibrated probabilities."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from cogcalib.modeling.final_logits import SOFTCAPS, first_number

TOLERANCE = 1e-4
"""Largest difference of log-probabilities, nats, that float32 may leave."""

_HALF = (torch.float16, torch.bfloat16)
_ADDED = (0.0, 1.0)  # to its weight by a norm, before it multiplies: Llama's nothing, Gemma's 1


class UnfoldableError(ValueError):
    """A temperature that cannot go into the weights of a model; the message says why."""


@dataclass(frozen=True, slots=True)
class Folded:
    """Where a temperature went.

    Attributes:
        place: Name of the module whose weights carry it.
        softcap: Configuration key of a softcap that was divided by it too; empty without one.
        difference: Largest difference between the log-probabilities and log_softmax(logits / T)
            over random tokens, nats, the last norm in float32 and the head in float64.
    """

    place: str
    softcap: str
    difference: float


@dataclass(frozen=True, slots=True)
class _Place:
    """Weights that scale every logit, and what to write into them."""

    name: str
    weights: tuple[tuple[Tensor, Tensor], ...]


@torch.no_grad()
def fold_temperature(model: PreTrainedModel, temperature: float) -> Folded:
    """Divide every logit of a model by a temperature, by its weights alone.

    ``logits = cap(scale * (norm(h) W^T + b))``, so the weight of the last norm is divided by T (the
    norm of Gemma multiplies by 1 + w: there w becomes (1 + w) / T - 1), and its bias and b too.
    Where that norm has no weight, W is, if the embeddings are not tied to it. A softcap
    ``cap tanh(x / cap)`` becomes ``(cap / T) tanh(x / cap)``, exactly, if cap is divided as well.

    No list of architectures is trusted: whatever was written, the log-probabilities of random
    tokens must then be log_softmax(logits / T), to `TOLERANCE` or eight roundings of the largest
    logit. For that check the last norm computes in float32 and the head in float64, whatever the
    model's own format. In half precision the vectors that carry the temperature stay in float32,
    so that a program that computes in float32 loses nothing: such a model is to be saved, not run.

    Args:
        model: A causal language model without an adapter, in evaluation mode. Changed in place.
        temperature: T, above 0.

    Raises:
        ValueError: If the temperature is not positive and finite.
        UnfoldableError: If the architecture does not allow it; the model is as it was.
    """
    if not 0.0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature!r}")
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear:
        raise UnfoldableError(f"its head is a {type(head).__name__}, not a plain linear layer")
    tied = _storage(head) == _storage(model.get_input_embeddings())
    ids = probe_ids(model)
    norm = _last_norm(model, head, ids)
    found = math.inf
    with _in_float32([head] if norm is None else [norm, head]) as settle, _exact(head):
        logits = _logits(model, ids) / temperature
        wanted = logits.log_softmax(-1)
        allowed = max(TOLERANCE, 8 * torch.finfo(torch.float32).eps * _largest(logits))
        for place in _places(model, head, norm, temperature, tied=tied):
            with _written(place, model.config, temperature) as (softcap, keep):
                difference = largest_difference(_logits(model, ids).log_softmax(-1), wanted)
                if difference <= allowed:
                    keep()
                    settle()
                    return Folded(place.name, softcap, difference)
            found = min(found, difference)
    raise UnfoldableError(_refusal(model, head, found, allowed))


def probe_ids(model: PreTrainedModel) -> Tensor:
    """Two sequences of random tokens, ``[2, 16]``, the same for every model of a vocabulary."""
    size = model.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    return torch.randint(size, (2, 16), generator=generator).to(model.device)


@torch.no_grad()
def probe_logits(model: PreTrainedModel) -> Tensor:
    """The model's logits on `probe_ids`, ``[2, 16, V]``, in float32 or wider."""
    return _logits(model, probe_ids(model))


def largest_difference(first: Tensor, second: Tensor) -> float:
    """Of two tensors of one shape; infinities of one sign are equal, NaN differs from all."""
    apart = torch.where(first == second, 0.0, (first - second).abs())
    return float(torch.nan_to_num(apart, nan=math.inf).max())


def _logits(model: PreTrainedModel, ids: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits.float() if logits.dtype in _HALF else logits


def _largest(logits: Tensor) -> float:
    return float(logits[logits.isfinite()].abs().max())


def _last_norm(model: nn.Module, head: nn.Linear, ids: Tensor) -> nn.Module | None:
    """The module of vectors as wide as the head that was called last before it."""
    called: list[nn.Module] = []
    watched = [each for each in model.modules() if _is_norm(each, head.in_features)]
    handles = [
        each.register_forward_hook(lambda module, *_: called.append(module))
        for each in (*watched, head)
    ]
    try:
        model(input_ids=ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    before = called[: called.index(head)] if head in called else called
    return before[-1] if before else None


def _is_norm(module: nn.Module, width: int) -> bool:
    vectors = list(module.parameters(recurse=False))
    return bool(vectors) and all(
        each.shape == (width,) and each.is_floating_point() for each in vectors
    )


def _places(
    model: PreTrainedModel,
    head: nn.Linear,
    norm: nn.Module | None,
    temperature: float,
    *,
    tied: bool,
) -> Iterator[_Place]:
    """Where the temperature might go, the likeliest first."""
    names = {module: name for name, module in model.named_modules()}
    bias = [] if head.bias is None else [(head.bias, head.bias / temperature)]
    if norm is not None:
        vectors = dict(norm.named_parameters(recurse=False))
        for added in _ADDED:
            new = [
                (each, each / temperature)
                if name == "bias"
                else (each, (added + each) / temperature - added)
                for name, each in vectors.items()
            ]
            yield _Place(names[norm], (*new, *bias))
    if not tied:
        yield _Place(names[head], ((head.weight, head.weight / temperature), *bias))


def _storage(module: nn.Module) -> int:
    """Where its weight lies: a tied head and the embeddings have one."""
    return int(module.weight.data_ptr())  # type: ignore[operator]


@contextmanager
def _written(place: _Place, config: PretrainedConfig, temperature: float) -> Iterator[Any]:
    """The weights of a place and the softcap, divided; as they were unless `keep` is called.

    Yields:
        The key of the softcap, and `keep`.
    """
    config = config.get_text_config()
    before = [(weight, weight.clone()) for weight, _ in place.weights]
    key = next((each for each in SOFTCAPS if first_number(config, [each])), "")
    cap: float = getattr(config, key) if key else 0.0
    kept: list[bool] = []
    for weight, new in place.weights:
        weight.copy_(new)
    if key:
        setattr(config, key, cap / temperature)
    try:
        yield key, lambda: kept.append(True)
    finally:
        if not kept:
            for weight, old in before:
                weight.copy_(old)
            if key:
                setattr(config, key, cap)


@contextmanager
def _in_float32(modules: Sequence[nn.Module]) -> Iterator[Any]:
    """Let modules in half precision compute in float32, afterwards as they were but for `settle`.

    Yields:
        `settle`: vectors then stay in float32, and what was written into a matrix goes back into
        its own dtype.
    """
    stored: list[tuple[nn.Module, str, nn.Parameter]] = []
    settled: list[bool] = []
    for module in modules:
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight.dtype in _HALF:
                stored.append((module, name, weight))
                setattr(module, name, nn.Parameter(weight.float(), requires_grad=False))
    handles = [
        module.register_forward_pre_hook(_widened) for module in {each for each, *_ in stored}
    ]
    try:
        yield lambda: settled.append(True)
    finally:
        for handle in handles:
            handle.remove()
        for module, name, weight in stored:
            if settled and weight.dim() == 1:
                continue
            if settled:
                weight.copy_(getattr(module, name))
            setattr(module, name, weight)


@contextmanager
def _exact(head: nn.Linear) -> Iterator[None]:
    """Let the head multiply in float64, a part of the vocabulary at a time.

    In float32 the sums of a sharp model differ by more than `TOLERANCE` for no other reason than
    that their terms were divided first.
    """

    def forward(hidden: Tensor) -> Tensor:
        wide = hidden.double()
        parts = [nn.functional.linear(wide, rows.double()) for rows in head.weight.split(8192)]
        logits = torch.cat(parts, -1)
        return logits if head.bias is None else logits + head.bias.double()

    vars(head)["forward"] = forward  # in front of the class's own
    try:
        yield
    finally:
        del vars(head)["forward"]


def _widened(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        each.float() if isinstance(each, Tensor) and each.dtype in _HALF else each
        for each in inputs
    )


def _refusal(model: PreTrainedModel, head: nn.Linear, found: float, allowed: float) -> str:
    kind = type(model).__name__
    if found == math.inf:
        return (
            f"{kind} has no weights behind its last norm, and its head is its embeddings too, "
            "which a temperature would change"
        )
    return (
        f"the logits of {kind} do not scale with its last norm or its head: its log-probabilities "
        f"would be up to {found:.2g} nats away from log_softmax(logits / T), {allowed:.0e} are "
        "allowed"
    )
