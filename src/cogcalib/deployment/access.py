"""The way to a saved model: how it is loaded, or which server is asked for it."""

from __future__ import annotations

from dataclasses import dataclass

from cogcalib.inference.backend_spec import BackendSpec
from cogcalib.records import AUTO

REMOTE = (
    "endpoint", "served_name", "tokenizer", "api_key_env", "concurrency", "timeout", "top_logprobs",
)  # fmt: skip
"""Fields that an endpoint has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelAccess:
    """How a saved model is asked.

    Each text under Attributes is the help of an option of commands that ask one.

    Attributes:
        base: Model that an adapter sits on, a folder, a hub id, or atlas; if not given, the one
            that its files name.
        dtype: Number format of the weights; auto is that in which the model was calibrated, else
            that which they are stored in.
        four_bit: Weights in 4 bits (bitsandbytes).
        device: Where to put the model, such as cpu or cuda:0; a GPU if there is one.
        batch_size: Most sequences in one forward pass; as many as fit if not given.
        endpoint: Address of a server that has the model, such as http://localhost:8000/v1; it is
            asked, and the folder is read for its calibration alone.
        served_name: Name under which the server has the model.
        tokenizer: Folder or hub id of the tokenizer of the endpoint's model; the folder's own if
            not given.
        api_key_env: Environment variable of the key; OPENAI_API_KEY if not given.
        concurrency: Requests at once; 8 if not given.
        timeout: Seconds to wait for an answer; 120 if not given.
        top_logprobs: How many most probable tokens are asked for; 20 if not given.

    Raises:
        ValueError: If something is asked for that does not go together.
    """

    base: str | None = None
    dtype: str = AUTO
    four_bit: bool = False
    device: str | None = None
    batch_size: int | None = None
    endpoint: str | None = None
    served_name: str | None = None
    tokenizer: str | None = None
    api_key_env: str | None = None
    concurrency: int | None = None
    timeout: float | None = None
    top_logprobs: int | None = None

    def __post_init__(self) -> None:
        if (self.endpoint is None) != (self.served_name is None):
            raise ValueError(
                "endpoint and served_name go together: where the server is, and what it calls the "
                f"model; got {self.endpoint!r} and {self.served_name!r}"
            )
        if self.endpoint is not None and self.device is not None:
            raise ValueError("device cannot be used with an endpoint")
        self.spec("")

    def spec(self, model: str, adapter: str | None = None) -> BackendSpec:
        """What to load or to ask; raises ValueError as `BackendSpec`."""
        here = self.endpoint is None
        return BackendSpec(
            model=model if here else str(self.served_name),
            adapter=adapter if here else None,
            dtype=self.dtype,
            four_bit=self.four_bit,
            batch_size=self.batch_size,
            endpoint=self.endpoint,
            tokenizer=self.tokenizer,
            api_key_env=self.api_key_env,
            concurrency=self.concurrency,
            timeout=self.timeout,
            top_logprobs=self.top_logprobs,
        )
