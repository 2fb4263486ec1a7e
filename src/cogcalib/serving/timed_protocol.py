"""HTTP that slow clients cannot hold up: uvicorn's protocol with time limits and JSON errors."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from cogcalib.serving.api_errors import error_body

SPARE = 64
"""Connections above the limit that are told so; more are dropped, lest files run out."""


class TimedProtocol(H11Protocol):
    """Drops a connection whose headers, or whose reading of a response, take too long.

    uvicorn alone waits forever for the rest of a request's headers, and for a client that does not
    read. `seconds` is set by `timed`.
    """

    seconds = 10.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        most = self.limit_concurrency
        if most is not None and len(self.connections) > most + SPARE:
            transport.abort()
        self._expect_head()

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


def timed(seconds: float) -> type[TimedProtocol]:
    """The protocol with its time limit."""
    return type("TimedProtocol", (TimedProtocol,), {"seconds": seconds})
