"""Does what a page tells its reader to do: its commands, one after the other, in one folder."""

from __future__ import annotations

import glob
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from completion_server import wait_for

from cogcalib.cli import main, parse
from cogcalib.serving import run_server

SHELL = ("cat", "curl")
"""Programs that may run beside ours."""
WRITTEN = ("out", "output", "json")
"""Options that name what must not be there yet."""


class Reader:
    """Executes commands in the working folder, those of ours in this process."""

    def __init__(self) -> None:
        self.address = ""
        """Of the `cogcalib serve` that was begun last."""
        self._serving = ExitStack()

    def do(self, command: str) -> None:
        """Execute one line of shell.

        Raises:
            AssertionError: If it fails, or begins with a program that is not known here.
        """
        before, _, last = command.rpartition(" | ")
        words = shlex.split(last, comments=True)
        foreign = [line for line in (before, last) if line and not line.startswith("cogcalib ")]
        assert all(line.split()[0] in SHELL for line in foreign), (
            f"neither run nor excused: {command}"
        )
        if last in foreign:
            done = subprocess.run(command, shell=True, check=True, capture_output=True, text=True)
            assert '"error"' not in done.stdout, done.stdout
            return
        words = [each for word in words[1:] for each in sorted(glob.glob(word)) or [word]]
        _forget_alternatives(words)
        if words[0] == "serve":
            self.leave()
            self.address = self._serving.enter_context(_served(words))
            return
        with _piped(before):
            assert main(words) == 0, command

    def leave(self) -> None:
        """Stop the server that runs."""
        self._serving.close()


def _forget_alternatives(words: Sequence[str]) -> None:
    """Remove what an earlier command of the page wrote under the same name."""
    options = parse(words)
    named = [path for name in WRITTEN if (path := getattr(options, name, None)) is not None]
    for path in (each for name in named for each in Path().glob(f"{name}*")):  # records beside it
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def _piped(before: str) -> Iterator[None]:
    """What a command prints comes through the standard input."""
    if not before:
        yield
        return
    read, write = os.pipe()
    with os.fdopen(read) as opened, pytest.MonkeyPatch.context() as patch:
        with os.fdopen(write, "w") as into:
            subprocess.run(before, shell=True, check=True, stdout=into)
        patch.setattr(sys, "stdin", opened)
        yield


@contextmanager
def _served(words: Sequence[str]) -> Iterator[str]:
    """`cogcalib serve` in a thread, at a free port, until the end of the block; its address."""
    made: list[Any] = []
    codes: list[int] = []
    make = run_server.make_server

    def noted(*arguments: Any) -> Any:
        made.append(make(*arguments))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_server, "make_server", noted)
        thread = threading.Thread(target=lambda: codes.append(main([*words, "--port", "0"])))
        thread.start()
        wait_for(lambda: bool(codes) or (bool(made) and made[0].started))
    try:
        assert not codes
        host, port = made[0].servers[0].sockets[0].getsockname()
        assert httpx2.get(f"http://{host}:{port}/healthz").json() == {"status": "ok"}
        yield f"http://{host}:{port}"
    finally:
        for server in made:
            server.should_exit = True
        thread.join()
    assert codes == [0]
