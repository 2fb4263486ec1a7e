"""Settings of the server: where it listens, and the limits that it keeps."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass

from cogcalib.records import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeSettings:
    """Where the server listens, and the limits that it keeps.

    Each text under Attributes is the help of an option of ``serve``.

    Attributes:
        host: Address to listen at; any but a loopback address needs a key.
        port: To listen at; 0 takes a free one.
        name: Under which the model is served; the name of its folder if not given.
        api_key_env: Environment variable of the key that clients have to send; none if not given.
        refuse_text: What is answered in place of an answer that abstains; the answer itself if not
            given.
        max_batch: Most questions that are answered in one batch.
        gather: Seconds that a batch waits for more questions.
        queue: Most questions that wait or are being answered; more are refused (503).
        timeout: Seconds until a question that is not answered is given up (504).
        read_timeout: Seconds that a client may take to send its request, and its headers (408).
        max_body: Most bytes of a request (413).
        max_prompt: Most tokens of a prompt (400); what the model takes if not given.
        connections: Most clients connected at once (503).
        window: Answers that drift is measured over.

    Raises:
        InputError: If a limit is not positive, the port is none, or the key is missing.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    name: str | None = None
    api_key_env: str | None = None
    refuse_text: str | None = None
    max_batch: int = 32
    gather: float = 0.005
    queue: int = 256
    timeout: float = 60.0
    read_timeout: float = 10.0
    max_body: int = 1 << 20
    max_prompt: int | None = None
    connections: int = 256
    window: int = 1000

    def __post_init__(self) -> None:
        if not 0 <= self.port < 1 << 16:
            raise InputError(f"port must be between 0 and 65535, got {self.port}")
        if not 0 <= self.gather <= 1:
            raise InputError(f"gather must be between 0 and 1 second, got {self.gather}")
        for name in ("max_batch", "queue", "max_body", "max_prompt", "connections", "window"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        for name in ("timeout", "read_timeout"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"{name} must be a positive number, got {getattr(self, name)}")
        if self.api_key_env is None and not _loopback(self.host):
            raise InputError(
                f"host {self.host} lets other machines ask, which needs a key: name the "
                "environment variable that holds it with --api-key-env"
            )
        self.key()

    def key(self) -> bytes | None:
        """The key that clients have to send; None if there is none.

        Raises:
            InputError: If the environment variable that was named is not set.
        """
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise InputError(f"api_key_env: the environment variable {self.api_key_env} is not set")
        return key.encode()

    def hosts(self) -> frozenset[str]:
        """Names that a request may give the server: without a key those of this machine to itself;
        none is asked for with one, which no foreign page has."""
        if self.api_key_env is not None:
            return frozenset()
        return frozenset({"localhost", "127.0.0.1", "::1", self.host.lower()})


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
