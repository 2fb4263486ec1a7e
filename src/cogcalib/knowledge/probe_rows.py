"""The rows of a probe: what was found of each question, as Parquet and as objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from cogcalib.knowledge.detectors import Signals
from cogcalib.knowledge.slick_categories import CATEGORIES
from cogcalib.parquet import cast_table, read_table, write_table
from cogcalib.records import DOUBTFUL, KNOWN, UNKNOWN, Example, Option

FILE = "probe.parquet"
"""Name of the rows in a probe's folder."""

_NUMBERS = pa.list_(pa.float64())
_OPTION = pa.struct([(field.name, pa.string()) for field in fields(Option)])
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "task", "split", "group", "category", "prompt")),
        ("options", pa.list_(_OPTION)),
        ("answer", pa.string()),
        ("aliases", pa.list_(pa.string())),
        ("context", pa.string()),
        ("preset", pa.string()),
        ("prompt_ids", pa.list_(pa.string())),
        ("greedy", pa.list_(pa.bool_())),
        ("sampled", _NUMBERS),
        ("strict", _NUMBERS),
        *((name, pa.float64()) for name in ("p_greedy", "p_sampled", "p_hit")),
        *((name, pa.float64()) for name in ("nll", "margin", "entropy", "p_gold")),
        ("tokens", pa.int64()),
    ]
)


_EMPTY = ("options", "entropy")
"""Columns that may be empty: open-ended questions, and engines that show less than all logits."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a model knows of one example.

    Attributes:
        example: The question.
        group: What few-shot prompts were drawn for: relation, subject or task.
        category: One of `CATEGORIES`.
        prompt_ids: Each prompt's number; ``3:1`` had its shot 1 replaced by the reserve, ``0/2`` is
            rotation 2 of the options.
        greedy: Whether the greedy answer is correct, a prompt.
        sampled: Probability (exact mode) or share (sampled) of correct answers, a prompt.
        strict: The same counting only answers spelt just as accepted; in exact mode equal.
        p_greedy: Mean of `greedy`.
        p_sampled: Mean of `sampled`.
        p_hit: Probability that at least one sample under one of the prompts is correct.
        signals: NLL, margin, entropy and P(gold) of the supervised tokens.
    """

    example: Example
    group: str
    category: str
    prompt_ids: tuple[str, ...]
    greedy: tuple[bool, ...]
    sampled: tuple[float, ...]
    strict: tuple[float, ...]
    p_greedy: float
    p_sampled: float
    p_hit: float
    signals: Signals


class Probed(Sequence[Knowledge]):
    """The rows of a probe, in the order in which the examples came.

    Attributes:
        rows: One an example.
    """

    def __init__(self, rows: Sequence[Knowledge]) -> None:
        self.rows = tuple(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return Probed(self.rows[index]) if isinstance(index, slice) else self.rows[index]

    def __iter__(self) -> Iterator[Knowledge]:
        return iter(self.rows)

    def filter(self, *categories: str) -> Probed:
        """The rows of some categories; whether the letters are large or small does not matter.

        Raises:
            ValueError: If there is no such category.
        """
        names = {name.lower(): name for name in CATEGORIES}
        if wrong := [name for name in categories if name.lower() not in names]:
            raise ValueError(f"category must be one of {', '.join(CATEGORIES)}, got {wrong[0]!r}")
        wanted = {names[name.lower()] for name in categories}
        return Probed([row for row in self.rows if row.category in wanted])

    @property
    def ids(self) -> list[str]:
        """The examples' ids."""
        return [row.example.id for row in self.rows]

    @property
    def examples(self) -> list[Example]:
        """The examples, as `cogcalib.modeling.to_dataset` and the trainer's data take them."""
        return [row.example for row in self.rows]

    def known(self, *categories: str) -> dict[str, bool]:
        """Example id -> whether it counts as known: what the gate ``oracle`` takes.

        Args:
            *categories: Those that count; HighlyKnown alone if none is named.
        """
        chosen = set(self.filter(*(categories or CATEGORIES[:1])).ids)
        return {row.example.id: row.example.id in chosen for row in self.rows}

    def extremes(self) -> dict[str, str]:
        """Example id -> ``known`` (HighlyKnown), ``unknown`` or ``doubtful`` (between).

        The input of `cogcalib.tasks.compose`, which mixes known and unknown at a given ratio.
        """
        names = {CATEGORIES[0]: KNOWN, CATEGORIES[-1]: UNKNOWN}
        return {row.example.id: names.get(row.category, DOUBTFUL) for row in self.rows}


def load_probe(path: Path | str) -> Probed:
    """Read what ``cogcalib probe`` wrote: its folder, or the Parquet file or files.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no probe's file.
    """
    return Probed(read_rows(probe_file(path)))


def probe_file(path: Path | str) -> Path:
    """Where the rows of a probe are: one Parquet file, or a folder of them.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    path = Path(path)
    parted = path.is_dir() and path.name == FILE
    file = path / FILE if path.is_dir() and not parted else path
    if not file.exists():
        raise FileNotFoundError(f"there is no file {file}; a probe that was interrupted goes on")
    return file


def write_rows(path: Path, rows: Sequence[Knowledge]) -> Path:
    """Write rows, atomically: a file under its final name is whole."""
    return write_table(path, to_table(rows))


def to_table(rows: Sequence[Knowledge]) -> pa.Table:
    """Rows as a table of `SCHEMA`."""
    return pa.Table.from_pylist([_flat(row) for row in rows], schema=SCHEMA)


def from_table(table: pa.Table, path: Path) -> list[Knowledge]:
    """Rows of a table of `SCHEMA`, read from a file.

    Raises:
        ValueError: Naming the file, if the table is no probe's.
    """
    rows = cast_table(table, SCHEMA, path, _EMPTY).to_pylist()
    try:
        return [_nested(row) for row in rows]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: no probe's file: {error}") from error


def read_rows(path: Path) -> list[Knowledge]:
    """Read back what `write_rows` wrote, into a file or into the files of a folder.

    Raises:
        ValueError: If it is no Parquet file, or has other columns.
    """
    return from_table(read_table(path), path)


def _flat(row: Knowledge) -> dict[str, Any]:
    values = asdict(row)
    return {**values.pop("example"), **values.pop("signals"), **values}


def _nested(row: Mapping[str, Any]) -> Knowledge:
    options = row["options"]
    example = {field.name: row[field.name] for field in fields(Example)}
    example["options"] = None if options is None else tuple(Option(**each) for each in options)
    example["aliases"] = tuple(row["aliases"])
    lists = ("prompt_ids", "greedy", "sampled", "strict")
    values: dict[str, Any] = {name: tuple(row[name]) for name in lists}
    for name in ("group", "category", "p_greedy", "p_sampled", "p_hit"):
        values[name] = row[name]
    return Knowledge(
        example=Example(**example),
        signals=Signals(**{field.name: row[field.name] for field in fields(Signals)}),
        **values,
    )
