"""The name that was meant where one is not known, and long text cut short, for messages."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin

NEAR = 0.83
"""Likeness of two names, at most 1, from which one is taken for a slip of the other."""

NEAR_FOLDER = 0.75
"""The same of folders, which are called anything."""

MOST = 80
"""Characters of a value in a message."""


def cut(text: str, most: int = MOST) -> str:
    """Text of at most so many characters; the last is … where there were more."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def did_you_mean(got: str, allowed: Iterable[str], *, likeness: float = 0.6) -> str:
    """``; did you mean 'atlas/country'?``, to be put behind a message; empty if nothing is close.

    Args:
        got: What came; of ``owner/name`` it may be the last part alone.
        allowed: Names there are.
        likeness: How close a name must be.
    """
    known = list(allowed)
    if got in known:
        return ""
    # A whole name stands before a last part that is spelt like it.
    names = {name.rpartition("/")[2].lower(): name for name in known}
    names |= {name.lower(): name for name in known}
    close = get_close_matches(got.lower(), names, n=1, cutoff=likeness)
    return f"; did you mean {names[close[0]]!r}?" if close else ""


def hint_first(problem: str, meant: str, rest: str) -> str:
    """A message in which the name that was meant is read before the names there are.

    Args:
        problem: What is wrong.
        meant: What `did_you_mean` found, which may be empty.
        rest: What is allowed: a sentence without a capital.
    """
    return f"{problem}{meant} {rest[:1].upper()}{rest[1:]}" if meant else f"{problem}; {rest}"


def folder_meant(path: str, *files: str) -> str:
    """`did_you_mean` of the folders beside a path that hold one of some files.

    Args:
        path: A folder that is not there.
        files: Names, of which a folder that may be meant holds one.
    """
    beside = Path(path).parent
    try:
        folders = [
            each for each in beside.iterdir() if any((each / file).is_file() for file in files)
        ]
    except OSError:
        return ""
    return did_you_mean(str(Path(path)), map(str, folders), likeness=NEAR_FOLDER)


def whole_meant(name: str, part: str, allowed: Iterable[str]) -> str:
    """`did_you_mean` of a whole name, of which one part is close to one that may stand there."""
    close = get_close_matches(part.lower(), allowed, n=1)
    place = rf"(?<!\w){re.escape(part)}(?!\w)"
    return f"; did you mean {re.sub(place, close[0], name, count=1)!r}?" if close else ""


def any_meant(got: Collection[str], allowed: Iterable[str]) -> str:
    """`did_you_mean` of the first of several names that is close to one they lack.

    ``; did you mean 'answer' by 'answr'?`` where the message does not name the one that came.
    """
    known = list(allowed)
    lacking = [name for name in known if name not in got]
    for name in got:
        if name not in known and (meant := did_you_mean(name, lacking)):
            return meant if len(got) == 1 else f"{meant[:-1]} by {name!r}?"
    return ""


def slip(got: Collection[str], optional: Collection[str]) -> str:
    """What is wrong with the first name that is all but one of some that may be absent.

    Nobody would miss what it holds: it would be overlooked in silence. Empty if there is none.
    """
    lacking = [name for name in optional if name not in got]
    for name in got:
        if name not in optional and (meant := did_you_mean(name, lacking, likeness=NEAR)):
            return f"{name!r} would be overlooked{meant} Rename it, or drop it"
    return ""


def keys_at(model: Any, place: Sequence[Any]) -> list[str]:
    """The keys that a pydantic model may have at a place; none where keys are free.

    Args:
        model: The class.
        place: Keys and positions that lead there, as in the ``loc`` of an error.
    """
    kinds = [model]
    for part in place:
        kinds = [inner for kind in kinds for inner in _inside(kind, part)]
    return [name for kind in kinds for name in getattr(kind, "model_fields", ())]


def _inside(kind: Any, part: Any) -> Iterator[Any]:
    fields = getattr(kind, "model_fields", None)
    if fields is None:
        yield from _alternatives(get_args(kind)[-1:])
    elif part in fields:
        yield from _alternatives([fields[part].annotation])


def _alternatives(kinds: Iterable[Any]) -> Iterator[Any]:
    """Models, mappings and lists among kinds, those of unions one by one."""
    for kind in kinds:
        if hasattr(kind, "model_fields") or get_origin(kind) in (dict, list, tuple):
            yield kind
        else:
            yield from _alternatives(get_args(kind))
