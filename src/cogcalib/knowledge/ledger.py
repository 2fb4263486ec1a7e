"""The knowledge ledger: what training saw of every example at every pass.

One row a supervised unit and pass, in Parquet files that are written whole and never changed. A
killed training that goes on drops the files behind its checkpoint and writes them again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from cogcalib.parquet import cast_table, read_table

SCHEMA = pa.schema(
    [
        ("example", pa.string()),
        ("unit", pa.int32()),
        ("epoch", pa.int32()),
        ("step", pa.int32()),
        ("nll", pa.float32()),
        ("threshold", pa.float32()),
        ("weight", pa.float32()),
        ("penalty", pa.float32()),
        ("right", pa.float32()),
        ("confidence", pa.float32()),
    ]
)
"""Columns of the ledger.

- ``example``: its id, or its number in the training data if it has none.
- ``unit``: number of the unit within its example: 0, or which turn or token.
- ``epoch``: full passes over the training data done when it was seen. Several processes see some
  examples twice in the last batch of an epoch.
- ``step``: optimiser steps done when it was seen.
- ``nll``: of the unit before the step, nats, reduced as ``nll_reduction`` says.
- ``threshold``: in force, nats; nan during the style phase, and where no calibration split is.
- ``weight``: the gate's answer, in [0, 1].
- ``penalty``: alpha * weight * mean of R over its tokens: what was added to its cross-entropy.
- ``right``: 1 if each of its tokens is the arg max under teacher forcing, else 0: an end token that
  follows the answer makes no wrong answer half right.
- ``confidence``: product over its tokens of the largest probability over the vocabulary, a
  fraction: how likely the model holds what it would answer.
"""

FOLDER = "ledger"


def has_ledger(training: Path) -> bool:
    """Whether the output folder of a training holds a ledger."""
    return (training / FOLDER).is_dir()


def part_name(first: int, last: int, rank: int) -> str:
    """Name of the file of one rank with the steps ``first <= step < last``."""
    return f"steps-{first:09d}-{last:09d}-rank-{rank}.parquet"


def first_absent_step(folder: Path, step: int) -> int:
    """The first step before `step` that no file covers, or `step` if all are there."""
    reached = 0
    for first, last in sorted(map(_steps, _parts(folder, lambda _: True))):
        if first > reached:
            break
        reached = max(reached, last)
    return min(reached, step)


def drop_after(folder: Path, step: int) -> None:
    """Remove the files with steps that a training going on at `step` is about to repeat."""
    for path in _parts(folder, lambda last: last > step):
        path.unlink()


def read_ledger(run: Path | str) -> pa.Table:
    """The whole ledger of a training, by step, example and unit.

    Args:
        run: The output folder of a training, or the folder ``ledger`` in it.

    Returns:
        A table of `SCHEMA`.

    Raises:
        FileNotFoundError: If there is no ledger.
        ValueError: If a file is none of ours, naming it.
    """
    folder = Path(run)
    folder = folder if folder.name == FOLDER else folder / FOLDER
    parts = _parts(folder, lambda _: True)
    if not parts:
        raise FileNotFoundError(f"{folder} holds no ledger: no files steps-*.parquet")
    tables = []
    for path in parts:
        try:
            tables.append(cast_table(read_table(path), SCHEMA, path, ()))
        except ValueError as error:
            raise ValueError(f"{path} is no part of a ledger: {error}") from error
    return pa.concat_tables(tables).sort_by(
        [(name, "ascending") for name in ("step", "example", "unit")]
    )


def _parts(folder: Path, wanted: Callable[[int], bool]) -> list[Path]:
    found = sorted(folder.glob("steps-*-rank-*.parquet"))
    return [path for path in found if wanted(_steps(path)[1])]


def _steps(path: Path) -> tuple[int, int]:
    """Of a file's name: its first step, and the one behind its last."""
    first, last = path.name.split("-")[1:3]
    if not (first.isdecimal() and last.isdecimal()):
        raise ValueError(f"{path} is no part of a ledger: its name says no steps")
    return int(first), int(last)
