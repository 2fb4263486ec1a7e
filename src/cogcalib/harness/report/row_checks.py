"""The shape of the rows of ``metrics.json``, checked before anything is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cogcalib.artifacts import is_number
from cogcalib.scoring.metrics_row import WANTED
from cogcalib.suggest import cut

REQUIRED = ("method", "task", "split", "seed", "n", "accuracy", "nll", "brier", "ece")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return value is None or is_number(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and is_number(value) and value > 0


def _are_errors(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(each, Mapping) and _is_number(each.get("value")) and _is_floor(each.get("floor"))
        for each in value.values()
    )


def _is_floor(value: Any) -> bool:
    return value is None or (
        isinstance(value, Sequence) and len(value) == 2 and all(map(is_number, value))
    )


def _are_curves(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(each, Mapping)
        and all(
            isinstance(each.get(key), list) and all(map(is_number, each[key]))
            for key in ("coverage", "error")
        )
        and len(each["coverage"]) == len(each["error"])
        for each in value.values()
    )


_FITS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("method", "task", "split"), _is_text),
    **dict.fromkeys(("seed", "accuracy", "nll", "brier"), _is_number),
    "n": _is_count,
    "ece": _are_errors,
}
_FITS_IF_THERE: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("known_first_epoch", "known_last_epoch"), _is_number),
    **dict.fromkeys(("aurc", *WANTED), _are_errors),
    "risk_coverage": _are_curves,
}
"""Keys that rows of earlier releases lack."""


def check_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError, naming row and key, unless the rows are those of a ``metrics.json``."""
    seen = set()
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise ValueError(f"metrics row {number} must be an object, got {cut(str(row))}")
        if missing := [key for key in REQUIRED if key not in row]:
            raise ValueError(f"metrics row {number} misses {missing}; it has {sorted(row)}")
        held = {key: fits for key, fits in _FITS_IF_THERE.items() if key in row}
        for key, fits in (_FITS | held).items():
            if not fits(row[key]):
                raise ValueError(f"metrics row {number}: {key} cannot be {cut(str(row[key]))!r}")
        identity = (row["method"], row["task"], row["split"], row["seed"])
        if identity in seen:
            raise ValueError(f"metrics row {number} repeats (method, task, split, seed) {identity}")
        seen.add(identity)
