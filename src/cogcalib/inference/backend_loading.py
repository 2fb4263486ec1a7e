"""Backends from their specifications: checked, read without weights, loaded."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerBase

from cogcalib.inference.backend import Backend, Sampling
from cogcalib.inference.backend_spec import TRANSFORMERS, VLLM, VLLM_DTYPES, BackendSpec
from cogcalib.inference.batching import process
from cogcalib.inference.experimental.endpoint_backend import EndpointBackend, served_length
from cogcalib.inference.experimental.endpoint_client import Endpoint
from cogcalib.inference.experimental.endpoint_journal import ENDING, Journal
from cogcalib.inference.experimental.vllm_adapter import adapter_rank
from cogcalib.inference.experimental.vllm_backend import VllmBackend, check_vllm, vllm_spec
from cogcalib.inference.transformers_backend import TransformersBackend
from cogcalib.modeling import fingerprint, fingerprint_adapter, load_model, load_tokenizer
from cogcalib.modeling.adapters import check_adapter, revision_of_base
from cogcalib.modeling.model import chosen_device
from cogcalib.modeling.model_spec import ModelSpec, read_model_spec
from cogcalib.modeling.number_format import settled_dtype
from cogcalib.records import AUTO, DTYPES, Example

Spec = TypeVar("Spec", bound=BackendSpec)


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


def settled(spec: Spec, device: str | None = None) -> Spec:
    """A specification whose number format is named: what ``auto`` comes to here.

    Where that is not what the weights are stored in, a warning says so. Nothing is settled of a
    model behind an endpoint.

    Raises:
        ValueError: As `load_model`, or as `BackendSpec` if the engine does not have the format.
    """
    if spec.endpoint is not None or spec.dtype != AUTO:
        return spec
    allowed = VLLM_DTYPES if spec.worker == VLLM else DTYPES
    dtype, told = settled_dtype(spec.dtype, spec.model, chosen_device(device), allowed=allowed)
    if told:
        warnings.warn(told, stacklevel=2)
    return replace(spec, dtype=dtype)


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
        tokenizer, length = _reach(spec, server)
        return ModelSpec(tokenizer, (), length, len(tokenizer))
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
        return EndpointBackend(server, *_reach(spec, server, tokenizer))
    spec = settled(spec, device)
    if spec.worker == VLLM:
        if spec.adapter is not None:
            check_adapter(spec.adapter, spec.model)
            if revision := revision_of_base(spec.adapter):
                raise ValueError(
                    f"adapter {spec.adapter} was trained on the revision {revision} of its base, "
                    "and worker vllm loads the main branch; use worker transformers"
                )
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
    if spec.adapter is None:
        return {"model": fingerprint(spec.model), "adapter": None}
    model = fingerprint(spec.model, revision_of_base(spec.adapter))
    return {"model": model, "adapter": fingerprint_adapter(spec.adapter)}


def _limits(spec: BackendSpec) -> EndpointBackend | type[VllmBackend] | type[TransformersBackend]:
    server = spec.server()
    if server is not None:
        return EndpointBackend(server, *_reach(spec, server))
    return VllmBackend if spec.worker == VLLM else TransformersBackend


def _reach(
    spec: BackendSpec, server: Endpoint, tokenizer: PreTrainedTokenizerBase | None = None
) -> tuple[PreTrainedTokenizerBase, int | None]:
    """Tokenizer of a served model (one that is given, if any), and how many tokens it takes."""
    if tokenizer is not None:
        return tokenizer, served_length(server)
    if spec.tokenizer is not None:
        # Wrong names are told before anything is sent.
        return _served_tokenizer(spec.tokenizer), served_length(server)
    # The name a server gives its model is looked up on the hub only if there is such a server.
    length = served_length(server)
    try:
        return _served_tokenizer(spec.model), length
    except ValueError as error:
        raise ValueError(
            f"tokenizer must be given: there is none under the name that the endpoint serves, "
            f"{spec.model!r}; name the folder or hub id of its model's tokenizer"
        ) from error


def _served_tokenizer(name: str) -> PreTrainedTokenizerBase:
    try:
        return load_tokenizer(name)
    except ValueError as error:
        raise ValueError(f"tokenizer must be that of the endpoint's model: {error}") from error


@contextmanager
def kept_answers(
    backend: Backend,
    output: Path | None,
    examples: Sequence[Example],
    settings: Mapping[str, Any],
) -> Iterator[None]:
    """Keep every answer of an endpoint beside an output; what is kept there is not asked again.

    A model in this process is asked anew, and nothing is kept of it.

    Args:
        backend: The model.
        output: The file that the answers are for; None keeps nothing.
        examples: What is asked.
        settings: What the answers depend on besides, as JSON has it.

    Raises:
        ValueError: If answers of other work are kept there, naming what differs.
    """
    if output is None or not isinstance(backend, EndpointBackend):
        yield
        return
    asked = backend.endpoint
    # The number is part of every request, so that another would have them all asked again, unseen.
    identity = {
        "model": asked.model,
        "task": sorted({example.task for example in examples}),
        "split": sorted({example.split for example in examples}),
        "prompt": sorted({example.preset for example in examples}),
        **settings,
        "top_logprobs": asked.top_logprobs,
        "examples": Journal.key([[example.id, example.content_hash()] for example in examples]),
    }
    with Journal(answers_file(output), identity) as journal:
        backend.keep_in(journal)
        try:
            yield
        finally:
            backend.keep_in(None)


def answers_file(output: Path) -> Path:
    """Where `kept_answers` keeps what an output is made of; there from the first answer on."""
    return output.with_name(output.name + ENDING)
