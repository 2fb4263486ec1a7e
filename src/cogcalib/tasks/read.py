"""Rows of a source: from local JSONL, CSV and Parquet files, or from the Hugging Face hub.

JSONL and CSV are read here rather than by `datasets` or pyarrow: those turn a CSV's 007 into 7 and
its NA into a gap, fill rows that are too short, mend broken quotes and drop a second column of one
name without a word, and refuse a JSON column that holds now a text, now a list.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cogcalib.artifacts import parse_json
from cogcalib.hub import mind_the_network
from cogcalib.jsonl import json_lines
from cogcalib.suggest import cut
from cogcalib.tasks.task_file import Part, Source

if TYPE_CHECKING:
    import pyarrow as pa

SEPARATOR = "|"
"""Between texts in one cell of a CSV."""

_GAPS = ("prompt", "messages", "question", "options", "passage")
"""Columns in which a CSV's empty cell is a gap."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row and where it stands, for messages.

    Attributes:
        values: Column -> value. A gap is None, as pandas writes it (NaN) too.
        origin: File, or part of a data set on the hub.
        number: Of the row there, from 1.
    """

    values: Mapping[str, Any]
    origin: str
    number: int

    @classmethod
    def of(cls, values: Mapping[str, Any], origin: str, number: int) -> Row:
        """A row from values as they were read, whose gaps may be NaN."""
        return cls(_without_nan(values), origin, number)

    @property
    def place(self) -> str:
        """Such as ``data/train.jsonl, row 3``."""
        return f"{self.origin}, row {self.number}"


def typed_row(row: Row) -> Row:
    """A row with the lists of ``options``, ``messages`` and ``aliases`` that a CSV writes as text.

    Such a cell is JSON, or its texts stand between `SEPARATOR`; an empty one is a gap.

    Raises:
        ValueError: Naming row and column, if a cell that opens a list is no JSON.
    """
    if not row.origin.endswith(".csv"):
        return row
    values: dict[str, Any] = dict(row.values)
    for column in _GAPS:
        if not str(values.get(column) or "").strip():
            values.pop(column, None)
    for column in ("options", "messages", "aliases"):
        cell = str(values.get(column, ""))
        if cell.lstrip().startswith(("[", "{")):
            try:
                values[column] = parse_json(cell)
            except ValueError as error:
                raise ValueError(
                    f"{row.place}, column {column!r}: no valid JSON: {error}"
                ) from error
        elif column != "messages" and cell:
            texts = cell.split(SEPARATOR)
            shown = "question" in values  # a completion keeps the space that it begins with
            values[column] = [text.strip() for text in texts] if shown else texts
    return replace(row, values=values)


def _without_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _without_nan(each) for key, each in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


@dataclass(frozen=True, slots=True)
class TablePlace:
    """The place in a table at which a row begins.

    Attributes:
        file: Number of its file, where a table is a folder.
        rows: How many rows of the file stand before it.
        bytes: The same in bytes, where a reader can go there at once: JSONL.
    """

    file: int = 0
    rows: int = 0
    bytes: int = 0


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
        if part.without and not (folder / part.file).is_file():
            raise ValueError(
                f"{place}: no such data file; the task {part.without} carves its train split from "
                "what else there is: name it in its place, for `reproduce` in a preset of your own"
            )
        rows = list(read_file(folder / part.file))
    else:
        place, rows = _from_hub(source, name, part)
    if part.rows is not None and len(rows) != part.rows:
        raise ValueError(f"{place}: expected {part.rows} rows, found {len(rows)}")
    return rows


def read_file(path: Path) -> Iterator[Row]:
    """Rows of one local file, whose kind its name tells, as they are asked for.

    Raises:
        ValueError: Naming file and row.
    """
    for _, row in read_from(path, TablePlace()):
        yield row


def read_from(path: Path, start: TablePlace) -> Iterator[tuple[TablePlace, Row]]:
    """The rows of one file from a place on, each with its own.

    Raises:
        ValueError: As `read_file`.
    """
    if path.suffix not in _READERS:
        raise ValueError(f"{path}: must be one of {', '.join(_READERS)}, got {path.suffix!r}")
    if not path.is_file():
        raise ValueError(f"{path}: no such data file")
    for rows, begin, values in _READERS[path.suffix](path, start):
        yield TablePlace(start.file, rows, begin), Row.of(values, str(path), rows + 1)


_Values = Iterator[tuple[int, int, Mapping[str, Any]]]
"""Rows before a row, bytes before it, its cells."""


def _jsonl(path: Path, start: TablePlace) -> _Values:
    for number, begin, values in json_lines(path, start.bytes, start.rows + 1):
        if not isinstance(values, dict):
            shown = cut(json.dumps(values, ensure_ascii=False))
            raise ValueError(f"{path}, row {number}: must be an object, got {shown}")
        yield number - 1, begin, values


def _csv(path: Path, start: TablePlace) -> _Values:
    number = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            _check_header(path, list(reader.fieldnames or ()))
            for number, values in enumerate(reader, start=1):
                if None in values or None in values.values():
                    raise ValueError(f"{path}, row {number}: must have as many cells as the header")
                if number > start.rows:
                    yield number - 1, 0, values
        except csv.Error as error:
            raise ValueError(f"{path}, row {number + 1}: no valid CSV: {error}") from error
        except UnicodeDecodeError as error:
            # Files are decoded in blocks, ahead of the rows.
            raise ValueError(
                f"{path}, after row {number}: no UTF-8 text, save it as UTF-8: {error}"
            ) from error


def _check_distinct(path: Path, names: list[str]) -> None:
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{path}: there are two columns {twice[0]!r}")


def _check_header(path: Path, names: list[str]) -> None:
    _check_distinct(path, names)
    if len(names) == 1 and ";" in names[0]:
        raise ValueError(
            f"{path}: the header is one column, {names[0]!r}: are its columns separated by ;? "
            "A CSV's are separated by commas"
        )


def _parquet(path: Path, start: TablePlace) -> _Values:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Buffered: else a row group's columns are in memory whole, and one may hold a million rows.
        with pq.ParquetFile(path, buffer_size=_BUFFER) as file:
            _check_distinct(path, file.schema_arrow.names)
            narrow = _narrow_columns(file.schema_arrow)
            ends = accumulate(
                file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)
            )
            groups = [(i, end) for i, end in enumerate(ends) if end > start.rows]
            number = file.metadata.num_rows
            if groups:
                first, end = groups[0]
                number = end - file.metadata.row_group(first).num_rows
            for batch in file.iter_batches(1024, row_groups=[i for i, _ in groups]):
                ahead = min(max(0, start.rows - number), len(batch))
                for place, values in enumerate(batch.slice(ahead).to_pylist(), number + ahead):
                    short = {name: _shortest(values[name], of) for name, of in narrow.items()}
                    yield place, 0, {**values, **short}
                number += len(batch)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # damaged pages are OSErrors
        told = " ".join(str(error).split())
        raise ValueError(f"{path}: no valid Parquet: {told}") from error


def _narrow_columns(schema: pa.Schema) -> dict[str, type[np.floating[Any]]]:
    """Columns of numbers, or of lists of them, in fewer bits than Python's, and their type."""
    import pyarrow as pa

    found: dict[str, type[np.floating[Any]]] = {}
    for field in schema:
        kind = getattr(field.type, "value_type", field.type)
        if pa.types.is_float32(kind) or pa.types.is_float16(kind):
            found[field.name] = np.float32 if pa.types.is_float32(kind) else np.float16
    return found


def _shortest(value: Any, of: type[np.floating[Any]]) -> Any:
    """A number as whoever wrote it in few bits reads it: 0.1, not 0.10000000149011612."""
    if isinstance(value, list):
        return [_shortest(each, of) for each in value]
    return value if value is None else float(str(of(value)))


_BUFFER = 2**20

_READERS: dict[str, Callable[[Path, TablePlace], _Values]] = {
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

    mind_the_network()
    config, split = part.config or source.config, part.split or name
    place = f"{source.hub}@{source.revision}, {config or 'default'}/{split}"
    try:
        rows = datasets.load_dataset(source.hub, config, split=split, revision=source.revision)
    except (OSError, ValueError) as error:
        told = " ".join(str(error).split())
        raise ValueError(
            f"{place}: the hub cannot give it ({told}); a local copy is read where data_dir or "
            "COGCALIB_DATA names its folder"
        ) from error
    narrow = _narrow_columns(rows.features.arrow_schema)
    read = [
        {**row, **{name: _shortest(row[name], of) for name, of in narrow.items()}} for row in rows
    ]
    return place, [Row.of(values, place, number) for number, values in enumerate(read, start=1)]
