"""The choice of a model and of what runs it, as a command names it."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from cogcalib.inference.experimental.endpoint_client import Endpoint
from cogcalib.records import AUTO, DTYPES

TRANSFORMERS, VLLM = WORKERS = ("transformers", "vllm")

VLLM_DTYPES = ("float32", "bfloat16", "float16")
"""Number formats that vLLM has; with an adapter not float32."""

REMOTE = ("endpoint", "tokenizer", "concurrency", "timeout", "top_logprobs", "api_key_env")
"""Fields that an endpoint has."""

LOCAL = ("adapter", "four_bit", "dtype", "batch_size", "worker")
"""Fields that a model loaded here has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BackendSpec:
    """A model and what it runs in: transformers or vLLM in this process, or an endpoint.

    Each text under Attributes is the help of an option of ``score`` and ``probe``.

    Attributes:
        model: A folder, a hub id, or atlas; with an endpoint the name it serves.
        adapter: Folder or hub id of a PEFT adapter on top of the model.
        dtype: Number format of the weights; auto is that which they are stored in.
        four_bit: Weights in 4 bits (bitsandbytes).
        batch_size: Most sequences in one forward pass; as many as fit if not given.
        worker: Engine that the model runs in here; vllm is experimental and gives no entropy. It
            decides the last digits.
        endpoint: Address of a server to ask instead of loading a model, such as
            http://localhost:8000/v1.
        tokenizer: Folder or hub id of the tokenizer of the endpoint's model; that of `model` if not
            given.
        api_key_env: Environment variable of the key; OPENAI_API_KEY if not given.
        concurrency: Requests at once; 8 if not given.
        timeout: Seconds to wait for an answer; 120 if not given.
        top_logprobs: How many most probable tokens are asked for; 20 if not given.

    Raises:
        ValueError: If something is asked for that does not go together, or a number or name is
            none that is allowed.
    """

    model: str
    adapter: str | None = None
    dtype: str = AUTO
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
        where, names = ("without", REMOTE[1:]) if self.endpoint is None else ("with", LOCAL)
        default = {field.name: field.default for field in fields(BackendSpec)}
        if given := [name for name in names if getattr(self, name) != default[name]]:
            raise ValueError(f"{given[0]} cannot be used {where} an endpoint")
        if self.dtype not in (AUTO, *DTYPES):
            raise ValueError(
                f"dtype must be one of {', '.join((AUTO, *DTYPES))}, got {self.dtype!r}"
            )
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
        given = {name: getattr(self, name) for name in REMOTE[2:]}
        chosen = {name: value for name, value in given.items() if value is not None}
        return Endpoint(url=self.endpoint, model=self.model, **chosen)

    def everywhere(self) -> BackendSpec:
        """The same with folders' paths that hold in any working directory."""
        names = {name: getattr(self, name) for name in ("model", "adapter")}
        folders: dict[str, Any] = {
            name: str(Path(path).resolve())
            for name, path in names.items()
            if path is not None and Path(path).is_dir()
        }
        return replace(self, **folders)

    def _check_vllm(self) -> None:
        if self.four_bit:
            raise ValueError("four_bit needs worker transformers: vLLM quantises in other ways")
        if self.dtype not in (AUTO, *VLLM_DTYPES):
            raise ValueError(
                f"dtype must be one of {', '.join(VLLM_DTYPES)} with worker vllm, "
                f"got {self.dtype!r}"
            )
        if self.adapter is not None and self.dtype == "float32":
            raise ValueError(
                "dtype must be bfloat16 or float16 for an adapter with worker vllm, which computes "
                "adapters in half precision, got 'float32'"
            )
