"""Limits kept before a request is read: its key, its size and its time; and the count of all."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from cogcalib.serving.api_errors import ApiError, failed
from cogcalib.serving.monitoring import Monitor
from cogcalib.serving.serve_settings import ServeSettings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = ("/healthz",)
"""Paths that need no key."""

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/metrics", *OPEN)
"""Paths that are counted by name; others together, so that nobody fills the metrics with names."""

log = logging.getLogger("cogcalib.serving")


class Guard:
    """Around an application: refuses before it is asked, counts what is answered.

    A request needs the key (401), or without one a Host that is this machine's (403), and its body
    must come in time (408) and within so many bytes (413), whatever its Content-Length says. The
    application gets the body whole. An error of the application goes into the log; the client
    learns only that the server failed.

    Args:
        app: The application.
        monitor: Counts requests and times.
        settings: The key, the limits, and the names that the server goes by.
    """

    def __init__(self, app: App, monitor: Monitor, settings: ServeSettings) -> None:
        self._app, self._monitor = app, monitor
        self._key, self._hosts = settings.key(), settings.hosts()
        self._most, self._seconds = settings.max_body, settings.read_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, statuses = time.perf_counter(), []

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            await send(message)

        try:
            await self._guarded(scope, receive, counted)
        except ConnectionAbortedError:
            pass  # the client has gone: nobody is there to be told
        except ApiError as error:
            await send_error(counted, error)
        except Exception:
            log.exception("%s %r failed", scope["method"], scope["path"])
            if not statuses:
                await send_error(counted, failed("the server failed; its log says how"))
        finally:
            endpoint = scope["path"] if scope["path"] in PATHS else "other"
            # 499: what nginx calls a client that has gone before it was answered.
            status = str(statuses[0]) if statuses else "499"
            self._monitor.requests.labels(endpoint, status).inc()
            self._monitor.seconds.labels(endpoint).observe(time.perf_counter() - began)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if scope["path"] not in OPEN:
            self._check_key(headers.get(b"authorization", b""))
            self._check_host(headers.get(b"host", b""))
        if scope["method"] == "POST":
            _check_type(headers.get(b"content-type", b""))
        body = await self._body(headers.get(b"content-length", b""), receive)
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)

    def _check_key(self, sent: bytes) -> None:
        if self._key is None:
            return
        scheme, _, key = sent.partition(b" ")
        # Compared in constant time, and even if there is none.
        right = hmac.compare_digest(key.strip(), self._key)
        if not right or scheme.lower() != b"bearer":
            raise ApiError(
                401,
                "wrong or missing API key: send it as `Authorization: Bearer KEY`",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _check_host(self, sent: bytes) -> None:
        """A page in a browser may have its own name resolved to this machine, and then asks as if
        it had come from here."""
        host = sent.decode("latin-1").strip().lower()
        name = host.partition("]")[0].lstrip("[") if host[:1] == "[" else host.partition(":")[0]
        if self._hosts and name and name not in self._hosts:
            raise ApiError(
                403,
                f"the Host must be one of {', '.join(sorted(self._hosts))}, got {name[:200]!r}; a "
                "server with a key may have any name",
                code="wrong_host",
            )

    async def _body(self, length: bytes, receive: Receive) -> bytes:
        if length.isdigit() and int(length[:20]) > self._most:
            raise self._too_large()
        parts: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(self._seconds):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ConnectionAbortedError
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._most:
                        raise self._too_large()
                    more = message.get("more_body", False)
        except TimeoutError:
            raise ApiError(
                408,
                f"the request did not come within {self._seconds:g} s",
                headers={"Connection": "close"},
            ) from None
        return b"".join(parts)

    def _too_large(self) -> ApiError:
        return ApiError(413, f"a request may have {self._most} bytes", code="request_too_large")


def _check_type(sent: bytes) -> None:
    """A page in a browser can make it post anything but this without asking."""
    if sent.partition(b";")[0].strip().lower() != b"application/json":
        raise ApiError(415, "the Content-Type must be application/json")


async def send_error(send: Send, error: ApiError) -> None:
    """Send an error as a whole response."""
    body = error.body()
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    sent = [
        (name.lower().encode(), value.encode())
        for name, value in {**headers, **error.headers}.items()
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": sent})
    await send({"type": "http.response.body", "body": body})
