"""The server's life: its port is taken first, then the model loads; a signal lets it finish."""

from __future__ import annotations

import errno
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from cogcalib.records import InputError
from cogcalib.serving.app import make_app
from cogcalib.serving.asked import Answering
from cogcalib.serving.serve_settings import ServeSettings
from cogcalib.serving.timed_protocol import timed

KEEP_ALIVE = 75
"""Seconds that an idle connection is kept: longer than clients keep theirs, so that none sends a
request into a connection which is being closed."""

LARGEST_HEAD = 1 << 16
"""Most bytes of a request's line and headers."""


def take_port(host: str, port: int) -> socket.socket:
    """A socket that nobody else can listen at; it does not listen yet.

    Raises:
        InputError: If the port is in use, not allowed, or the host is none of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise InputError(f"host {host} is no address of this machine: {error.strerror}") from error
    taken = socket.socket(family, kind, protocol)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        taken.close()
        raise _refusal(host, port, error) from error
    return taken


def make_server(answering: Answering, name: str, settings: ServeSettings) -> uvicorn.Server:
    """A server that is yet to run, for `run` or for a thread.

    Args:
        answering: The model.
        name: Under which it is served.
        settings: The limits.
    """
    app, _ = make_app(answering, name, settings)
    config = uvicorn.Config(
        app,
        http=timed(settings.read_timeout, settings.connections),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        # What is begun is answered or given up within these.
        timeout_graceful_shutdown=int(settings.timeout + settings.read_timeout) + 1,
        h11_max_incomplete_event_size=LARGEST_HEAD,
    )
    return uvicorn.Server(config)


def run(server: uvicorn.Server, taken: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM, then finish what is begun and return.

    Raises:
        InputError: If another server has come to listen at the port since it was taken.
    """
    host, port = taken.getsockname()[:2]
    try:
        taken.listen(server.config.backlog)
    except OSError as error:
        raise _refusal(host, port, error) from error
    with _ends_well():
        server.run(sockets=[taken])


def address(taken: socket.socket) -> str:
    """The address that clients are given."""
    host, port = taken.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


def _refusal(host: str, port: int, error: OSError) -> InputError:
    if error.errno == errno.EADDRINUSE:
        return InputError(f"port {port} of {host} is in use; choose another with --port")
    if error.errno in (errno.EACCES, errno.EPERM):
        return InputError(f"port {port} is not allowed to this user; choose one from 1024 on")
    return InputError(f"cannot listen at {host}, port {port}: {error.strerror}")


@contextmanager
def _ends_well() -> Iterator[None]:
    """uvicorn sends itself the signal again that ended it; having been obeyed, it kills nobody."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(each, lambda number, frame: None) for each in signals]
    try:
        yield
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)
