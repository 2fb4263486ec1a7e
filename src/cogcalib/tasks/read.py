"""Rows of a source: from local JSONL, CSV and Parquet files, or from the Hugging Face hub."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogcalib.tasks.schema import Part, Source


@dataclass(frozen=True, slots=True)
class Row:
    """A row and where it stands, for messages.

    Attributes:
        values: Column -> value.
        origin: File, or part of a data set on the hub.
        number: Of the row there, from 1.
    """

    values: Mapping[str, Any]
    origin: str
    number: int

    @property
    def place(self) -> str:
        """Such as ``data/train.jsonl, row 3``."""
        return f"{self.origin}, row {self.number}"


def read_part(source: Source, name: str, folder: Path | None) -> list[Row]:
    """All rows of a part.

    Args:
        source: The part's source.
        name: Of the part.
        folder: Where the files are; None reads from the hub.

    Raises:
        ValueError: If the file is missing, unreadable or of another kind, the hub cannot give the
            data set, or there are not as many rows as expected (naming both numbers).
    """
    part = source.parts[name]
    if folder is not None and part.file is not None:
        place = str(folder / part.file)
        rows = list(read_file(folder / part.file))
    else:
        place, rows = _from_hub(source, name, part)
    if part.rows is not None and len(rows) != part.rows:
        raise ValueError(f"{place}: expected {part.rows} rows, found {len(rows)}")
    return rows


def read_file(path: Path) -> Iterator[Row]:
    """Rows of one local file, whose kind its name tells.

    Raises:
        ValueError: Naming file and row.
    """
    if path.suffix not in _READERS:
        raise ValueError(f"{path}: must be one of {', '.join(_READERS)}, got {path.suffix!r}")
    if not path.is_file():
        raise ValueError(f"{path}: no such data file")
    for number, values in enumerate(_READERS[path.suffix](path), start=1):
        yield Row(values, str(path), number)


def _jsonl(path: Path) -> Iterator[Mapping[str, Any]]:
    # Not splitlines: JSON leaves U+2028 and its like inside a string as they are.
    lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    for number, line in enumerate(lines if lines != [""] else [], start=1):
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, row {number}: no valid JSON: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"{path}, row {number}: must be an object, got {line[:60]!r}")
        yield values


def _csv(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, values in enumerate(csv.DictReader(file, strict=True), start=1):
            if None in values or None in values.values():
                raise ValueError(f"{path}, row {number}: must have as many cells as the header")
            yield values


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: no valid Parquet: {error}") from error
    yield from table.to_pylist()


_READERS: dict[str, Callable[[Path], Iterator[Mapping[str, Any]]]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}


def _from_hub(source: Source, name: str, part: Part) -> tuple[str, list[Row]]:
    if source.hub is None:
        raise ValueError(
            f"part {name!r} has no data set on the hub: get it from {source.homepage} and name the "
            f"folder that holds {part.file} as data_dir or in COGCALIB_DATA"
        )
    import datasets

    config, split = part.config or source.config, part.split or name
    place = f"{source.hub}@{source.revision}, {config or 'default'}/{split}"
    try:
        rows = datasets.load_dataset(source.hub, config, split=split, revision=source.revision)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{place}: the hub cannot give it ({error}); a local copy is read where data_dir or "
            "COGCALIB_DATA names its folder"
        ) from error
    return place, [Row(values, place, number) for number, values in enumerate(rows, start=1)]
