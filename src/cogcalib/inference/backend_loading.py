"""Backends from their specifications: checked, read without weights, loaded."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

from cogcalib.inference.backend import Backend, Sampling
from cogcalib.inference.backend_spec import TRANSFORMERS, VLLM, BackendSpec
from cogcalib.inference.batching import process
from cogcalib.inference.experimental.endpoint_backend import EndpointBackend, served_length
from cogcalib.inference.experimental.vllm_adapter import adapter_rank
from cogcalib.inference.experimental.vllm_backend import VllmBackend, check_vllm, vllm_spec
from cogcalib.inference.transformers_backend import TransformersBackend
from cogcalib.modeling import fingerprint, fingerprint_adapter, load_model, load_tokenizer
from cogcalib.modeling.adapters import check_adapter
from cogcalib.modeling.model_spec import ModelSpec, read_model_spec


def check_backend(spec: BackendSpec) -> None:
    """Check what can be checked before anything is read.

    Raises:
        ValueError: If vLLM is not installed, an endpoint's address or key is wrong, or one of them
            is to be asked by several processes.
    """
    alone = process()[1] == 1
    if spec.server() is not None and not alone:
        raise ValueError("an endpoint is asked by one process; concurrency says how much at once")
    if spec.worker == VLLM:
        check_vllm()
        if not alone:
            raise ValueError(
                "worker vllm runs in one process, not under accelerate launch; engine ray gives it "
                "several GPUs"
            )


def check_answers(spec: BackendSpec, sampling: Sampling) -> None:
    """`Backend.check_answers`, before a model is loaded; an endpoint is asked."""
    _limits(spec).check_answers(sampling)


def check_sampling(spec: BackendSpec, sampling: Sampling) -> None:
    """`Backend.check_sampling`, before a model is loaded; an endpoint is asked."""
    _limits(spec).check_sampling(sampling)


def read_spec(spec: BackendSpec) -> ModelSpec:
    """The model without its weights, as its engine takes it.

    Raises:
        ValueError: As `read_model_spec` and `check_adapter`, if vLLM does not compute the adapter,
            or the endpoint does not serve the model or its tokenizer is not found.
        EndpointError: If the endpoint does not answer.
    """
    server = spec.server()
    if server is not None:
        tokenizer = _served_tokenizer(spec)
        return ModelSpec(tokenizer, (), served_length(server), len(tokenizer))
    if spec.adapter is not None:
        check_adapter(spec.adapter, spec.model)
    if spec.worker == TRANSFORMERS:
        return read_model_spec(spec.model)
    if spec.adapter is not None:
        adapter_rank(spec.adapter)
    return vllm_spec(spec.model)


def load_backend(
    spec: BackendSpec,
    device: str | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Backend:
    """Load the model, or reach out for it.

    Args:
        spec: The model and its engine.
        device: Of a model in transformers, as `load_model` takes it.
        tokenizer: Of a model in transformers or behind an endpoint, where it is not its own.

    Raises:
        ValueError: As `load_model`, `VllmBackend` or `read_spec`.
        EndpointError: If the endpoint does not answer.
    """
    server = spec.server()
    if server is not None:
        if tokenizer is None:
            tokenizer = _served_tokenizer(spec)
        return EndpointBackend(server, tokenizer, served_length(server))
    if spec.worker == VLLM:
        if spec.adapter is not None:
            check_adapter(spec.adapter, spec.model)
        return VllmBackend(spec.model, spec.adapter, spec.dtype, spec.batch_size)
    model, own = load_model(
        spec.model,
        adapter=spec.adapter,
        dtype=spec.dtype,
        four_bit=spec.four_bit,
        device=device,
    )
    return TransformersBackend(model, tokenizer or own, batch_size=spec.batch_size)


def fingerprints(spec: BackendSpec) -> dict[str, Any]:
    """Hashes of model and adapter, as JSON has them; of a served model its name."""
    if spec.endpoint is not None:
        return {"model": {"served": spec.model}, "adapter": None}
    adapter = fingerprint_adapter(spec.adapter) if spec.adapter is not None else None
    return {"model": fingerprint(spec.model), "adapter": adapter}


def _limits(spec: BackendSpec) -> EndpointBackend | type[VllmBackend] | type[TransformersBackend]:
    server = spec.server()
    if server is not None:
        return EndpointBackend(server, _served_tokenizer(spec))
    return VllmBackend if spec.worker == VLLM else TransformersBackend


def _served_tokenizer(spec: BackendSpec) -> PreTrainedTokenizerBase:
    try:
        return load_tokenizer(spec.tokenizer or spec.model)
    except ValueError as error:
        raise ValueError(f"tokenizer must be that of the endpoint's model: {error}") from error
