"""HTTP with an endpoint: retries, time-outs, and a key that shows up nowhere.

The client is ours, not `openai`: that one retries too, but brings ten packages for these hundred
lines, and would send a refusal of llama.cpp's that comes as HTTP 500 again and again.
"""

from __future__ import annotations

import os
import random
import threading
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import httpx2

LONGEST_WAIT = 600.0
"""Seconds: a server that asks for a longer pause is given up."""
FEW_RETRIES = 2
"""At most, of an endpoint that has not been reached yet: its address is more likely wrong."""


class EndpointError(RuntimeError):
    """The endpoint does not answer, or not what can be used."""


class FailingError(EndpointError):
    """The endpoint answers one request with HTTP 500 however often it is sent."""


class RefusedError(ValueError):
    """The endpoint turned a request down (HTTP 4xx): to ask again would change nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """An OpenAI-compatible server and how to ask it.

    Attributes:
        url: Its address, such as ``http://localhost:8000/v1``; without a path ``/v1`` is added.
        model: The name under which it serves the model.
        api_key_env: Environment variable of the key, sent if it is set. There is no other way to
            give one.
        concurrency: Most requests under way at once.
        timeout: Seconds to wait for a connection, and for an answer.
        retries: How often a request is sent again after HTTP 429 or 5xx, a broken connection or a
            time-out; twice at most where no connection has been made yet.
        backoff: Seconds before the first retry; doubled each time up to half a minute, times a
            random number in [0.5, 1]. A server's Retry-After is waited for if it is longer.
        top_logprobs: How many of the most probable tokens are asked for. vLLM gives at most 20
            unless started with a larger ``--max-logprobs``.

    Raises:
        ValueError: If a number is not positive, or the address is none or carries a password or a
            query.
    """

    url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 8
    timeout: float = 120.0
    retries: int = 6
    backoff: float = 0.5
    top_logprobs: int = 20

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        # The address itself is not repeated: it may carry a password.
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("endpoint must begin with http:// or https:// and name a host")
        _ = parts.port  # raises if it is no port
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(
                "endpoint must carry no user, password or query: a key goes into the environment "
                f"variable {self.api_key_env}"
            )
        if not self.model:
            raise ValueError("model must name what the endpoint serves, got an empty name")
        for name in ("concurrency", "top_logprobs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("timeout", "backoff"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}")
        if self.retries < 0:
            raise ValueError(f"retries must be 0 or more, got {self.retries}")

    @property
    def base(self) -> str:
        """The address that ``/completions`` is put behind."""
        url = self.url.rstrip("/").removesuffix("/completions")
        return url if urlsplit(url).path else f"{url}/v1"


class Client:
    """Sends requests to one endpoint, from any number of threads, within a ``with`` block.

    Args:
        endpoint: Where to and how.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._key = os.environ.get(endpoint.api_key_env, "").strip()
        self._stopped = threading.Event()
        self._reached = False
        self._http: httpx2.Client | None = None

    def __enter__(self) -> Client:
        most = self.endpoint.concurrency
        self._stopped.clear()
        self._http = httpx2.Client(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=self.endpoint.timeout,
            limits=httpx2.Limits(max_connections=most, max_keepalive_connections=most),
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()  # whoever waits for a retry stops waiting and raises
        if self._http is not None:
            self._http.close()

    def stop(self) -> None:
        """Let what is under way end, and send nothing more."""
        self._stopped.set()

    def get(self, path: str) -> Any:
        """The JSON at `path`; errors as `post`."""
        return self._send("GET", path, None)

    def post(self, path: str, body: Any) -> Any:
        """Send JSON and return the JSON answered.

        Raises:
            EndpointError: If there is no usable answer after all retries.
            RefusedError: If the answer is an HTTP error that a retry cannot mend.
        """
        return self._send("POST", path, body)

    def _send(self, method: str, path: str, body: Any) -> Any:
        problem, failing, retries = "", False, self.endpoint.retries
        for attempt in count():
            if self._stopped.is_set() or self._http is None:
                raise EndpointError("stopped")
            asked_for = 0.0
            try:
                response = self._http.request(method, self.endpoint.base + path, json=body)
            except httpx2.RequestError as error:
                failing = False
                problem = self._clean(f"{type(error).__name__}: {error}")
                unreachable = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
                if unreachable and not self._reached:
                    retries = min(retries, FEW_RETRIES)
            else:
                self._reached = True
                if response.status_code == 200:
                    return _json(response)
                problem = f"HTTP {response.status_code}: {self._clean(_message(response))}"
                if not _passing(response, body):
                    raise RefusedError(f"the endpoint refuses {path}: {problem}")
                failing = response.status_code == 500
                asked_for = _retry_after(response)
                if asked_for > LONGEST_WAIT:
                    raise EndpointError(f"the endpoint asks to wait {asked_for:.0f} s: {problem}")
            if attempt >= retries:
                kind = FailingError if failing else EndpointError
                raise kind(f"no answer from {self.endpoint.base} in {attempt + 1} tries: {problem}")
            delay = min(30.0, self.endpoint.backoff * 2**attempt) * random.uniform(0.5, 1.0)
            self._stopped.wait(max(delay, asked_for))

    def _clean(self, text: str) -> str:
        """What may be shown: some servers repeat the key in their error."""
        shown = text.replace(self._key, "[key]") if self._key else text
        return shown if len(shown) <= 400 else f"{shown[:400]} ..."


def _json(response: httpx2.Response) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise EndpointError("the endpoint answers something that is no JSON") from error


def _message(response: httpx2.Response) -> str:
    """What an error says: OpenAI's form, FastAPI's, or the bare text."""
    try:
        content = response.json()
    except ValueError:
        return response.text
    for name in ("error", "message", "detail"):
        if isinstance(content, dict) and name in content:
            content = content[name]
    return str(content)


def _passing(response: httpx2.Response, body: Any) -> bool:
    """Whether the same request may succeed later."""
    # llama.cpp says that it has no echo with HTTP 500.
    if body is not None and body.get("echo") and "echo" in _message(response).lower():
        return False
    return response.status_code == 429 or response.status_code >= 500


def _retry_after(response: httpx2.Response) -> float:
    """Seconds that the server asks to wait, given as a number or as a date; 0 if it does not."""
    text = response.headers.get("Retry-After", "")
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0
