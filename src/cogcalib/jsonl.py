"""JSON lines: data classes and mappings, one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from cogcalib.records import Option, write_text

T = TypeVar("T")


def write_jsonl(path: Path | str, rows: Iterable[Any]) -> Path:
    """Write data classes or mappings, one JSON object a line, atomically."""
    lines = [
        json.dumps(dict(row) if isinstance(row, Mapping) else asdict(row), ensure_ascii=False)
        for row in rows
    ]
    return write_text(path, "".join(line + "\n" for line in lines))


def read_jsonl(path: Path | str, kind: type[T]) -> list[T]:
    """Read back what `write_jsonl` wrote.

    Raises:
        ValueError: Naming file and line if a row is no JSON or misses or adds a field.
    """
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    rows: list[T] = []
    # Not splitlines: JSON leaves U+2028 and its like inside a string as they are.
    lines = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    for number, line in enumerate(lines if lines != [""] else [], start=1):
        try:
            values = json.loads(line)
            unknown = set(values) - names
            if unknown:
                raise TypeError(f"unknown fields {sorted(unknown)}")
            rows.append(kind(**{name: _frozen(name, value) for name, value in values.items()}))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: no valid {kind.__name__}: {error}") from error
    return rows


def json_lines(path: Path, begin: int = 0, row: int = 1) -> Iterator[tuple[int, int, Any]]:
    """What stands in a JSONL file by anybody, line by line; blank lines at the end do not count.

    Args:
        path: Of the file.
        begin: Byte at which to begin.
        row: Number of the row there.

    Yields:
        Number of a row, the byte at which it begins, its value.

    Raises:
        ValueError: Naming file and row of what is no UTF-8, no JSON or blank.
    """
    blank = None
    # Binary lines end at a line feed alone: JSON leaves U+2028 and its like as they are.
    with path.open("rb") as file:
        file.seek(begin)
        for number, line in enumerate(file, start=row):
            at, begin = begin, begin + len(line)
            if not line.strip():
                blank = blank or number
                continue
            if blank is not None:
                raise ValueError(f"{path}, row {blank}: no valid JSON: the line is empty")
            try:
                value = json.loads(line.decode("utf-8-sig" if at == 0 else "utf-8"))
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path}, row {number}: no UTF-8 text, save it as UTF-8: {error}"
                ) from error
            except ValueError as error:
                raise ValueError(f"{path}, row {number}: no valid JSON: {error}") from error
            yield number, at, value


def _frozen(name: str, value: Any) -> Any:
    if name == "options" and value is not None:
        return tuple(Option(**option) for option in value)
    return tuple(value) if isinstance(value, list) else value
