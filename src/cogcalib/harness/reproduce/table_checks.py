"""Names inside a table: every one must stand for a row, or a variant, that is there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from cogcalib.harness.config import Method
from cogcalib.harness.config.methods import split_posthoc, with_posthoc
from cogcalib.harness.config.sections import check_distinct
from cogcalib.suggest import any_meant, hint_first


class ListsMethods(Protocol):
    """What is read of a variant."""

    @property
    def methods(self) -> tuple[str, ...] | None: ...


class ChoosesAmong(Protocol):
    """What is read of a choice."""

    @property
    def among(self) -> tuple[str, ...]: ...
    @property
    def posthoc(self) -> tuple[str, ...]: ...


class NamesRows(Protocol):
    """What is read of a `cogcalib.harness.reproduce.definitions.Table`, which imports this."""

    @property
    def methods(self) -> tuple[str, ...]: ...
    @property
    def variants(self) -> Mapping[str, ListsMethods]: ...
    @property
    def best(self) -> Mapping[str, ChoosesAmong]: ...
    @property
    def against(self) -> tuple[str, ...]: ...
    @property
    def pairs(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def cited(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def drawn_against(self) -> str | None: ...


def check_names(table: NamesRows) -> None:
    """Refuse names that would be overlooked.

    Raises:
        ValueError: Naming the key, what stands there for nothing, and what there is.
    """
    if not table.variants:
        raise ValueError("variants must hold at least one")
    for name, variant in table.variants.items():
        if variant.methods is not None:
            key = f"variants.{name}.methods"
            _check_known(key, variant.methods, table.methods)
            check_distinct(variant.methods, key)
    _check_best(table)
    rows = _rows(table, table.methods)
    _check_known("against", table.against, rows)
    _check_pairs(table)
    if table.drawn_against is not None and table.drawn_against not in rows:
        raise ValueError(f"drawn_against must name a row, got {table.drawn_against}")
    for name in dict.fromkeys(name for pair in table.cited for name in pair):
        tempered = split_posthoc(name)[1] == "ts" or table.drawn_against is not None
        if name not in rows or not tempered:
            raise ValueError(f"cited must name rows with a temperature, got {name}")


def _check_best(table: NamesRows) -> None:
    """Choices have names of their own, something to choose from, and SFT to be held against."""
    for name, spec in table.best.items():
        key = f"best.{name}"
        if not name or "+" in name or ":" in name or Method.read(name).stem:
            raise ValueError(f"{key}: must not be called like a method, nor with '+' or ':'")
        if "sft" not in table.methods:
            raise ValueError(f"{key}: is chosen at the accuracy of sft, which must be a row")
        if not spec.among:
            raise ValueError(f"{key}.among must name at least one row")
        _check_known(f"{key}.among", spec.among, table.methods)
        for method in (with_posthoc(each, kind) for each in spec.among for kind in spec.posthoc):
            try:
                Method.parse(method)
            except ValueError as error:
                raise ValueError(f"{key}.posthoc: {error}") from error


def _check_pairs(table: NamesRows) -> None:
    """As `cogcalib.harness.reproduce.table_rows` finds them, ``row`` or ``variant:row``."""
    listed = {
        name: table.methods if variant.methods is None else variant.methods
        for name, variant in table.variants.items()
    }
    first = next(iter(listed))
    for pair in table.pairs:
        across = any(":" in side for side in pair)
        for side in pair:
            variant, _, row = side.rpartition(":")
            _check_known("pairs", [variant] if variant else [], listed, "variant")
            here = listed[variant or first] if across else table.methods
            _check_known("pairs", [row], _rows(table, here), f"row of {side}" if variant else "row")


def _rows(table: NamesRows, listed: Collection[str]) -> tuple[str, ...]:
    """The rows of a variant that lists some methods, and what is chosen among them."""
    rows = [*listed]
    for name, spec in table.best.items():
        if "sft" in listed and not set(spec.among).isdisjoint(listed):
            rows += [name, *(with_posthoc(name, kind) for kind in spec.posthoc)]
    return tuple(rows)


def _check_known(key: str, names: Iterable[str], known: Collection[str], kind: str = "row") -> None:
    if lost := [name for name in dict.fromkeys(names) if name not in known]:
        raise ValueError(
            hint_first(
                f"{key}: {', '.join(lost)} is no {kind}",
                any_meant(lost, known),
                f"there are {', '.join(known)}",
            )
        )
