"""HTTP that slow clients cannot hold up: uvicorn's protocol with time limits and JSON errors."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from cogcalib.serving.api_errors import ApiError, error_body
from cogcalib.serving.limits import App, Receive, Scope, Send, send_error

SPARE = 64
"""Connections above the limit that are told so; more are dropped, lest files run out."""


class TimedProtocol(H11Protocol):
    """Drops a connection whose headers, or whose reading of a response, take too long.

    uvicorn alone waits forever for the rest of a request's headers, and for a client that does not
    read; and it would tell a client above its limit so in plain text. `seconds` and `most` are set
    by `timed`.
    """

    seconds = 10.0
    most = 256
    app: App

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._application: App = self.app

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most + SPARE:
            transport.abort()
        self._expect_head()

    def handle_events(self) -> None:
        # What is asked now is answered by the application of this moment.
        self.app = self._application if len(self.connections) <= self.most else _tell_full
        super().handle_events()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._expect_head()
        else:
            self._head_timer = self._stop(self._head_timer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer = self._stop(self._head_timer)
        self._write_timer = self._stop(self._write_timer)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._write_timer = self._stop(self._write_timer)
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Say that what came is no HTTP, in JSON as everything else."""
        body = error_body(msg)
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        try:
            for event in (
                h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event))
        except h11.LocalProtocolError:
            pass  # within a response already: there is nothing left to say
        self.transport.close()

    @staticmethod
    def _stop(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
        """Stop a timer that may run; gives None to keep in its place."""
        if timer is not None:
            timer.cancel()
        return None

    def _expect_head(self) -> None:
        if self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(self.seconds, self.transport.abort)


async def _tell_full(scope: Scope, receive: Receive, send: Send) -> None:
    """Say that there are as many connections as may be, and close this one."""
    headers = {"Retry-After": "1", "Connection": "close"}
    message = "as many clients are connected as may be; come back later"
    await send_error(
        send, ApiError(503, message, "server_error", code="overloaded", headers=headers)
    )


def timed(seconds: float, most: int) -> type[TimedProtocol]:
    """The protocol with its limits: seconds, and connections that are answered."""
    return type("TimedProtocol", (TimedProtocol,), {"seconds": seconds, "most": most})
