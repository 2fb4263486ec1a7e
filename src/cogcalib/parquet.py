"""Parquet files: written whole or not at all, and read with errors that name the file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cogcalib.records import replacing


def write_table(path: Path, table: pa.Table) -> Path:
    """Write a table, atomically."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary)
    return path


def read_table(path: Path) -> pa.Table:
    """Read a file, or the files of a folder as one table.

    Raises:
        ValueError: If it is no Parquet file.
    """
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: no valid Parquet file: {error}") from error
