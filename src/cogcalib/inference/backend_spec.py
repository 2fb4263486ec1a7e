"""The choice of a model and of what runs it: all that is needed to load a `Backend`."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from cogcalib.inference.backend import Backend, Sampling
from cogcalib.inference.batching import process
from cogcalib.inference.experimental.endpoint_backend import EndpointBackend, served_length
from cogcalib.inference.experimental.endpoint_client import Endpoint
from cogcalib.inference.experimental.vllm_adapter import adapter_rank
from cogcalib.inference.experimental.vllm_backend import DTYPES as VLLM_DTYPES
from cogcalib.inference.experimental.vllm_backend import VllmBackend, check_vllm, vllm_spec
from cogcalib.inference.transformers_backend import TransformersBackend
from cogcalib.modeling import (
    DTYPES,
    fingerprint,
    fingerprint_adapter,
    load_model,
    load_tokenizer,
)
from cogcalib.modeling.model_spec import ModelSpec, read_model_spec

TRANSFORMERS, VLLM = WORKERS = ("transformers", "vllm")


@dataclass(frozen=True, kw_only=True, slots=True)
class BackendSpec:
    """A model and what it runs in: transformers or vLLM in this process, or an endpoint.

    Attributes:
        model: A folder, a hub id, or an embedded model; with an endpoint the name it serves.
        adapter: Folder or hub id of a PEFT adapter on top of the model.
        dtype, four_bit: As in `cogcalib.modeling.load_model`.
        batch_size: Most sequences in one forward pass; None lets the engine decide.
        worker: What the model runs in here, ``transformers`` or ``vllm``. It decides the last
            digits, and vLLM gives no entropy.
        endpoint: Address of a server to ask instead of loading a model.
        tokenizer: Of the endpoint's model, a folder or a hub id; None takes `model` as such a name.
        api_key_env, concurrency, timeout, top_logprobs: As in `Endpoint`; None takes its default.

    Raises:
        ValueError: If something is asked for that does not go together, or a number or name is
            none that is allowed.
    """

    model: str
    adapter: str | None = None
    dtype: str = "float32"
    four_bit: bool = False
    batch_size: int | None = None
    worker: str = TRANSFORMERS
    endpoint: str | None = None
    tokenizer: str | None = None
    api_key_env: str | None = None
    concurrency: int | None = None
    timeout: float | None = None
    top_logprobs: int | None = None

    def __post_init__(self) -> None:
        where, names = ("without", REMOTE) if self.endpoint is None else ("with", _LOCAL)
        default = {field.name: field.default for field in fields(BackendSpec)}
        if given := [name for name in names if getattr(self, name) != default[name]]:
            raise ValueError(f"{given[0]} cannot be used {where} an endpoint")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.worker not in WORKERS:
            raise ValueError(f"worker must be one of {', '.join(WORKERS)}, got {self.worker!r}")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.worker == VLLM:
            self._check_vllm()

    def server(self) -> Endpoint | None:
        """The endpoint to ask, None if a model is to be loaded.

        Raises:
            ValueError: As `Endpoint`, or if the environment variable that was named is not set.
        """
        if self.endpoint is None:
            return None
        if self.api_key_env is not None and not os.environ.get(self.api_key_env):
            raise ValueError(f"api_key_env: the environment variable {self.api_key_env} is not set")
        given = {name: getattr(self, name) for name in REMOTE if name != "tokenizer"}
        chosen = {name: value for name, value in given.items() if value is not None}
        return Endpoint(url=self.endpoint, model=self.model, **chosen)

    def check(self) -> None:
        """Check what can be checked before anything is read.

        Raises:
            ValueError: If vLLM is not installed, an endpoint's address or key is wrong, or one of
                them is to be asked by several processes.
        """
        alone = process()[1] == 1
        if self.server() is not None and not alone:
            raise ValueError(
                "an endpoint is asked by one process; concurrency says how much at once"
            )
        if self.worker == VLLM:
            check_vllm()
            if not alone:
                raise ValueError(
                    "worker vllm runs in one process, not under accelerate launch; engine ray "
                    "gives it several GPUs"
                )

    def check_answers(self, sampling: Sampling) -> None:
        """`Backend.check_answers`, before a model is loaded; an endpoint is asked."""
        self._limits().check_answers(sampling)

    def check_sampling(self, sampling: Sampling) -> None:
        """`Backend.check_sampling`, before a model is loaded; an endpoint is asked."""
        self._limits().check_sampling(sampling)

    def read(self) -> ModelSpec:
        """The model without its weights.

        Raises:
            ValueError: As `read_model_spec`, if vLLM does not compute the adapter, or the endpoint
                does not serve the model or its tokenizer is not found.
            EndpointError: If the endpoint does not answer.
        """
        server = self.server()
        if server is not None:
            tokenizer = self._served_tokenizer()
            return ModelSpec(tokenizer, (), served_length(server), len(tokenizer))
        if self.worker == TRANSFORMERS:
            return read_model_spec(self.model)
        if self.adapter is not None:
            adapter_rank(self.adapter)
        return vllm_spec(self.model)

    def load(self) -> Backend:
        """Load the model, or reach out for it.

        Raises:
            ValueError: As `load_model`, `VllmBackend` or `read`.
            EndpointError: If the endpoint does not answer.
        """
        server = self.server()
        if server is not None:
            spec = self.read()
            return EndpointBackend(server, spec.tokenizer, spec.positions)
        if self.worker == VLLM:
            return VllmBackend(self.model, self.adapter, self.dtype, self.batch_size)
        loaded = load_model(
            self.model, adapter=self.adapter, dtype=self.dtype, four_bit=self.four_bit
        )
        return TransformersBackend(*loaded, batch_size=self.batch_size)

    def fingerprints(self) -> dict[str, Any]:
        """Hashes of model and adapter, as JSON has them; of a served model its name."""
        if self.endpoint is not None:
            return {"model": {"served": self.model}, "adapter": None}
        adapter = fingerprint_adapter(self.adapter) if self.adapter is not None else None
        return {"model": fingerprint(self.model), "adapter": adapter}

    def everywhere(self) -> BackendSpec:
        """The same with folders' paths that hold in any working directory."""
        names = {name: getattr(self, name) for name in ("model", "adapter")}
        folders: dict[str, Any] = {
            name: str(Path(path).resolve())
            for name, path in names.items()
            if path is not None and Path(path).is_dir()
        }
        return replace(self, **folders)

    def _limits(self) -> EndpointBackend | type[VllmBackend] | type[TransformersBackend]:
        server = self.server()
        if server is not None:
            return EndpointBackend(server, self._served_tokenizer())
        return VllmBackend if self.worker == VLLM else TransformersBackend

    def _served_tokenizer(self) -> Any:
        try:
            return load_tokenizer(self.tokenizer or self.model)
        except ValueError as error:
            raise ValueError(f"tokenizer must be that of the endpoint's model: {error}") from error

    def _check_vllm(self) -> None:
        if self.four_bit:
            raise ValueError("four_bit needs worker transformers: vLLM quantises in other ways")
        if self.dtype not in VLLM_DTYPES:
            raise ValueError(
                f"dtype must be one of {', '.join(VLLM_DTYPES)} with worker vllm, "
                f"got {self.dtype!r}"
            )
        if self.adapter is not None and self.dtype == "float32":
            raise ValueError(
                "dtype must be bfloat16 or float16 for an adapter with worker vllm, which computes "
                "adapters in half precision, got 'float32'"
            )


_LOCAL = ("adapter", "four_bit", "dtype", "batch_size", "worker")

REMOTE = ("tokenizer", "api_key_env", "concurrency", "timeout", "top_logprobs")
"""Fields that go only with an endpoint."""
