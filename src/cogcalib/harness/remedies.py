"""Remedies for damaged files of a run: said behind what is wrong, once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cogcalib.owned_folder import FolderError

ANEW = "choose another name or remove the folder, and run anew"
WITHOUT = "remove it, and what it tells is left out"
"""Of a file that nothing rests on."""


@contextmanager
def damaged(remedy: str) -> Iterator[None]:
    """Say what to do about an artifact that cannot be read, unless that was said of it already."""
    try:
        yield
    except FolderError:
        raise
    except (ValueError, OSError) as error:
        raise FolderError(f"{error}; {remedy}") from error


def again(path: Path) -> str:
    """How a part of a run is made again; only ``cogcalib run`` needs to be told to go on."""
    return f"remove {path}, and the same command makes it again (cogcalib run: with --resume)"
