"""JSON lines: data classes and mappings, one object a line."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from cogcalib.artifacts import parse_json, to_record
from cogcalib.records import write_text

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
        ValueError: Naming file and row of what is no JSON, or misses, adds or has a wrong value in
            a field.
    """
    rows: list[T] = []
    with collector_paused():
        for number, _, values in json_lines(Path(path)):
            try:
                rows.append(to_record(kind, values))
            except (TypeError, ValueError) as error:
                what = f"no valid {kind.__name__}"
                raise ValueError(f"{path}, row {number}: {what}: {error}") from error
    return rows


@contextmanager
def collector_paused() -> Iterator[None]:
    """Read rows that are kept: they hold no cycles, and all else is not searched for any anew.

    Python searches everything there is each time that a quarter has come to it, which took a
    third of the reading.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def json_lines(path: Path, begin: int = 0, row: int = 1) -> Iterator[tuple[int, int, Any]]:
    """What stands in a JSONL file by anybody, line by line; blank lines at the end do not count.

    Args:
        path: Of the file.
        begin: Byte at which to begin.
        row: Number of the row there.

    Yields:
        Number of a row, the byte at which it begins, its value.

    Raises:
        ValueError: Naming file and row of what is no UTF-8, blank, or not as `parse_json` has it.
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
                value = parse_json(line.decode("utf-8-sig" if at == 0 else "utf-8"))
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path}, row {number}: no UTF-8 text, save it as UTF-8: {error}"
                ) from error
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, row {number}: no valid JSON: {error}") from error
            yield number, at, value
