"""SIGTERM, as batch systems send it before they kill: work ends where it can go on later."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

EXIT_CODE = 128 + signal.SIGTERM
"""Of a process that ended because it was told to."""


class TerminatedError(KeyboardInterrupt):
    """The process was told to end, by SIGTERM, and has left what it can go on from."""


def raise_on_sigterm() -> None:
    """From now on SIGTERM raises `TerminatedError` in the main thread, as Ctrl-C interrupts."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _raise)


@contextmanager
def raising_on_sigterm() -> Iterator[None]:
    """`raise_on_sigterm` while the work inside is under way."""
    before: Any = signal.getsignal(signal.SIGTERM)
    raise_on_sigterm()
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextmanager
def postponing_sigterm(ask: Callable[[], None]) -> Iterator[None]:
    """Call `ask` when SIGTERM comes instead of ending; the work inside has to end by itself.

    Handlers can only be set in the main thread; in another one nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Any = signal.signal(signal.SIGTERM, lambda *_: ask())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    raise TerminatedError
