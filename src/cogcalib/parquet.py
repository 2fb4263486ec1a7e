"""Parquet files: written whole or not at all, and read with errors that name the file."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cogcalib.records import replacing


def write_table(path: Path, table: pa.Table) -> Path:
    """Write a table, atomically."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary)
    return path


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file of what Arrow raises.

    Raises:
        ValueError: If it is no Parquet file, or cut.
    """
    try:
        yield
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(f"{path}: no valid Parquet file: {error}") from error


def cast_table(table: pa.Table, schema: pa.Schema, path: Path, empty: Collection[str]) -> pa.Table:
    """A table in a schema's types, without rows that miss a value.

    Args:
        table: As it was read.
        schema: The columns wanted, in their order.
        path: Of the file, for errors.
        empty: Columns that may be empty.

    Raises:
        ValueError: Naming file and column.
    """
    if missing := sorted(set(schema.names) - set(table.column_names)):
        raise ValueError(f"{path}: the column {missing[0]!r} is missing")
    chosen = table.select(schema.names)
    for name in schema.names:
        if name not in empty and chosen[name].null_count:
            row = chosen[name].is_null().index(True).as_py() + 1
            raise ValueError(f"{path}, row {row}: the column {name!r} is empty")
    columns = []
    for name in schema.names:
        try:
            columns.append(chosen[name].cast(schema.field(name).type))
        except (pa.ArrowException, ValueError) as error:
            raise ValueError(
                f"{path}: the column {name!r} must be {schema.field(name).type}: {error}"
            ) from error
    return pa.table(columns, schema=schema)


def read_table(path: Path) -> pa.Table:
    """Read a file, or the files of a folder as one table.

    Raises:
        ValueError: If it is no Parquet file.
    """
    with reading(path):
        return pq.read_table(path)
