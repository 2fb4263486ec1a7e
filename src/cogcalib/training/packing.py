"""Packing that takes along what is known of each example, and back again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from datasets import Dataset
from trl import pack_dataset

from cogcalib.training.collator import EXTRA_COLUMNS

TOKENS = ("input_ids", "labels")
LENGTHS = "seq_lengths"
"""TRL's column: the number of tokens of each example in a packed row."""

_ROW = "row"


def pack(dataset: Dataset, length: int, strategy: str, map_arguments: Mapping[str, Any]) -> Dataset:
    """Put several examples into each row, with TRL's `pack_dataset`.

    TRL packs nothing but columns of one entry per token. So every token is told its example's
    number; what else is known of the examples is looked up with the numbers that come out.

    Args:
        dataset: Tokenised examples of at most `length` tokens.
        length: Tokens of a row, at most.
        strategy: TRL's, one that leaves examples whole.
        map_arguments: For `Dataset.map`.

    Returns:
        Rows with ``input_ids`` and ``labels``, ``seq_lengths``, and for each of `EXTRA_COLUMNS`
        that `dataset` has a list with one entry per example.
    """
    extra = [column for column in EXTRA_COLUMNS if column in dataset.column_names]
    tokens = dataset.select_columns(list(TOKENS))
    if not extra:
        return pack_dataset(tokens, length, strategy, dict(map_arguments))
    numbered = tokens.map(_number, with_indices=True, **map_arguments)
    packed = pack_dataset(numbered, length, strategy, dict(map_arguments))
    members = [
        [numbers[start] for start in _starts(lengths)]
        for numbers, lengths in zip(packed[_ROW], packed[LENGTHS], strict=True)
    ]
    packed = packed.remove_columns(_ROW)
    for column in extra:
        values = list(dataset[column])
        packed = packed.add_column(column, [[values[n] for n in row] for row in members])
    return packed


def examples(dataset: Dataset) -> Iterator[tuple[list[int], list[int]]]:
    """Tokens and labels of every single example of a prepared data set, packed or not."""
    rows = zip(dataset["input_ids"], dataset["labels"], strict=True)
    if LENGTHS not in dataset.column_names:
        yield from rows
        return
    for (ids, labels), lengths in zip(rows, dataset[LENGTHS], strict=True):
        for start, length in zip(_starts(lengths), lengths, strict=True):
            end = start + length
            yield ids[start:end], labels[start:end]


def count_examples(dataset: Dataset) -> int:
    """How many examples a prepared data set holds, packed or not."""
    if LENGTHS not in dataset.column_names:
        return len(dataset)
    return sum(len(lengths) for lengths in dataset[LENGTHS])


def _number(row: Mapping[str, Any], index: int) -> dict[str, list[int]]:
    return {_ROW: [index] * len(row["input_ids"])}


def _starts(lengths: list[int]) -> list[int]:
    return list(accumulate(lengths[:-1], initial=0))
