"""The name that was meant, where one is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(got: str, allowed: Iterable[str]) -> str:
    """``; did you mean 'atlas/country'?``, to be put behind a message; empty if nothing is close.

    Args:
        got: What came.
        allowed: Names there are.
    """
    names = {name.lower(): name for name in allowed}
    if got.lower() in names and names[got.lower()] == got:
        return ""
    close = get_close_matches(got.lower(), names, n=1, cutoff=0.6)
    return f"; did you mean {names[close[0]]!r}?" if close else ""
