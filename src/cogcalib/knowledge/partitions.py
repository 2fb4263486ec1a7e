"""Files of a probe's rows that need not fit into memory: merged, counted, drawn from in passes."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cogcalib.knowledge.probe_rows import Probed, from_table, probe_file
from cogcalib.parquet import read_table, reading
from cogcalib.records import replacing

_ROWS = 4096
_BUFFER = 2**20


def part_name(number: int) -> str:
    """The name of a part's file; in the order of the names stands the order of the parts."""
    return f"{number:08d}.parquet"


def part_files(path: Path) -> list[Path]:
    """The file itself, or the files of a folder in their order."""
    return sorted(path.glob("*.parquet")) if path.is_dir() else [path]


def merge(parts: Sequence[Path], path: Path) -> Path:
    """Write the rows of all parts into one file, atomically, a row group a part."""
    with reading(parts[0]):
        schema = pq.read_schema(parts[0])
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for part in parts:
            writer.write_table(read_table(part))
            release_freed()
    return path


def release_freed() -> None:
    """Give back what Arrow has freed: its pool would keep some 100 bytes of every row."""
    pa.default_memory_pool().release_unused()


def count_categories(path: Path | str) -> Counter[str]:
    """Category -> how many of a probe's rows are of it.

    Raises:
        FileNotFoundError: If there is no finished probe.
    """
    counts: Counter[str] = Counter()
    for batch in _batches(probe_file(path), ["category"]):
        for each in batch["category"].value_counts().to_pylist():
            counts[each["values"]] += each["counts"]
    return counts


def draw_rows(path: Path | str, most: int) -> Probed:
    """All rows of a probe, or `most` of them drawn at random, in their order.

    Those are drawn whose ids have the smallest hashes, so that it is the same ones each time and
    whatever the rows' order.

    Raises:
        FileNotFoundError: If there is no finished probe.
    """
    file = probe_file(path)
    smallest: list[tuple[int, int]] = []
    row = 0
    for batch in _batches(file, ["id"]):
        for id in batch["id"].to_pylist():
            if not isinstance(id, str):
                raise ValueError(f"{file}, row {row + 1}: the column 'id' must be text, got {id!r}")
            drawn = int.from_bytes(hashlib.sha256(id.encode()).digest()[:8])
            if len(smallest) < most:
                heapq.heappush(smallest, (-drawn, -row))
            else:
                heapq.heappushpop(smallest, (-drawn, -row))
            row += 1
    chosen = sorted(-row for _, row in smallest)
    rows, row, at = [], 0, 0
    for batch in _batches(file):
        first = at
        while at < len(chosen) and chosen[at] < row + len(batch):
            at += 1
        if at > first:
            wanted = pa.array([index - row for index in chosen[first:at]])
            rows += from_table(pa.Table.from_batches([batch.take(wanted)]), file)
        row += len(batch)
    return Probed(rows)


def _batches(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    for part in part_files(path):
        with reading(part), pq.ParquetFile(part, buffer_size=_BUFFER) as file:
            # One by one: a reader of them all keeps something of each that it has been through.
            for group in range(file.num_row_groups):
                yield from file.iter_batches(_ROWS, row_groups=[group], columns=columns)
                release_freed()
