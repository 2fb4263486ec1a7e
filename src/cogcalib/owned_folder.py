"""A folder that belongs to one configuration: made for it, gone on with, never overwritten."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from cogcalib.artifacts import check_writable, read_json
from cogcalib.records import InputError, write_json, write_text

if sys.platform != "win32":
    import fcntl

CONFIG = "config.yaml"


class FolderError(InputError):
    """A folder that must not be touched: it holds something else."""


class OwnedFolder:
    """A folder that belongs to one configuration.

    Args:
        path: The folder. It is not looked at: `begin` claims it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def begin(
        cls, path: Path, config: str, *, resume: bool = False, reread: Callable[[str], str] = str
    ) -> Self:
        """Make a folder for a configuration, or go on with it.

        Args:
            path: The folder; created if it does not exist.
            config: The configuration as text.
            resume: Go on in a folder that already holds this configuration.
            reread: Brings a configuration held there into the form of `config`, keys that came
                later at their defaults.

        Raises:
            FolderError: If the folder holds another configuration or other things, or holds this
                one and `resume` is not set.
            InputError: If nothing can be written there.
        """
        folder = cls(path)
        check_writable(path)
        if path.exists() and not path.is_dir():
            raise FolderError(f"{path} is a file, no run folder")
        if path.is_dir() and any(map(_counts, path.iterdir())):
            folder._check_owner(config, resume, reread)
        else:
            write_text(path / CONFIG, config)
        return folder

    def _check_owner(self, config: str, resume: bool, reread: Callable[[str], str]) -> None:
        held = self.path / CONFIG
        if not held.is_file():
            raise FolderError(
                f"{self.path} is not empty and holds no {CONFIG}: no run of ours; "
                "name another folder"
            )
        try:
            text = held.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise FolderError(f"{held}: no UTF-8 text; remove the folder") from error
        difference = _first_difference(reread(text), config)
        if difference:
            raise FolderError(
                f"{self.path} holds a run of a different configuration ({difference}); "
                "choose another name or remove the folder"
            )
        if not resume:
            raise FolderError(
                f"{self.path} already holds this run; pass --resume to go on with it, "
                "or choose another name"
            )

    def claim(self, name: str, content: Any) -> None:
        """Keep what finished stages rest on, or make sure that it is still the same.

        Raises:
            FolderError: If the folder was begun with something else.
        """
        path = self.path / name
        held = (
            read_json(path, object, "choose another name or remove the folder")
            if (path.exists())
            else content
        )
        if held != content:
            raise FolderError(
                f"{path} says that this run was begun with other data or another model than are "
                "there now; choose another name or remove the folder"
            )
        write_json(path, content)


def _counts(path: Path) -> bool:
    """Whether a folder is taken by what lies in it; a process killed at its first file left none.

    Nor did a file manager that looked in.
    """
    return not path.name.startswith(f".{CONFIG}.") and path.name != ".DS_Store"


def _first_difference(held: str, wanted: str) -> str | None:
    for before, after in zip(held.splitlines(), wanted.splitlines(), strict=False):
        if before != after:
            return f"it has {before.strip()!r}, not {after.strip()!r}"
    return None if held.strip() == wanted.strip() else "of another length"


@contextmanager
def holding(path: Path) -> Iterator[None]:
    """Keep other processes out of a folder, which is made if needed, until this one ends or dies.

    Raises:
        FolderError: If another process holds it, or a file lies there.
    """
    if path.exists() and not path.is_dir():
        raise FolderError(f"{path} is a file, no run folder")
    made = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":  # where a folder cannot be locked
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderError(
                f"another process is writing into {path}; wait for it, or choose another name"
            ) from error
        except OSError:  # a file system without locks: there is none to ask for
            pass
        try:
            yield
        finally:
            if made:
                with suppress(OSError):  # empty it is only where the work was refused
                    path.rmdir()
    finally:
        os.close(handle)
