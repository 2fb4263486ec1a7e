"""Packing that takes along what is known of each example, and back again; a trial for leaks.

Attention kernels for sequences of various lengths keep examples apart by ``cu_seq_lens_*``;
transformers' ``sdpa`` and ``eager`` masks do it by ``position_ids``; some architectures do neither,
in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from trl import pack_dataset

from cogcalib.training.collator import EXTRA_COLUMNS
from cogcalib.training.supervised_logits import supervised_logits, undisturbed
from cogcalib.training.supervision import supervised_tokens

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


N_TOKENS = 16
"""Different tokens the model is tried with."""

LEAK = 1e-3
"""Largest relative difference by the tokens of other examples that is rounding. In any precision 0
to 2e-7 are seen without a leak, since the same is computed at the same place, and with one 2.4e-3
(a tiny untrained BLOOM) and more."""

TOLERANCE = 2e-3
"""Largest relative difference by the place in the row that is rounding in float32; where nothing
leaks 0 to 1e-6 are seen."""

TOLERANCE_HALF = 5e-2
"""The same in half precision, mixed precision included, with 0 to 2e-2 seen."""

NOISE = 4.0
"""So many times what is seen where nothing can be amiss still counts as that."""


def check_isolation(
    model: nn.Module,
    head: nn.Module,
    collate: Callable[[list[dict[str, Any]]], dict[str, Tensor]],
    token_ids: Iterable[int],
    *,
    device: torch.device,
    tolerance: float,
) -> None:
    """Raise ValueError if an example's logits depend on those before it in its row.

    A row has the same example first and last and another between them; a second row has another of
    the same length there. The last example's logits must be the same in both rows, and the same as
    the first's. What comes later is never seen: how far the first example's logits differ between
    the rows is the model's own noise.

    Args:
        model: Wrapped or not.
        head: Its output embeddings.
        collate: Merges examples into a batch on the model's device.
        token_ids: Tokens of the training data.
        device: Of the model.
        tolerance: Largest relative difference between first and last, in the Euclidean norm, that
            is rounding.
    """
    tokens = _different(token_ids)
    half = len(tokens) // 2
    example, others = tokens[: half + 1], (tokens[half:], tokens[: len(tokens) - half])
    with undisturbed(model, device):
        (first, last), (first_again, last_again) = (
            _first_and_last(model, head, collate, (example, other, example)) for other in others
        )
    noise = NOISE * _difference(first, first_again)
    leak, moved = _difference(last, last_again), _difference(first, last)
    if leak <= max(LEAK, noise) and moved <= max(tolerance, noise):
        return
    raise ValueError(
        "padding_free=True and packing=True are not supported with this model and attention "
        "implementation: examples in one row see each other or are not placed anew (the same "
        f"example's logits differ by {moved:.2g} of their size when it comes last, and by "
        f"{leak:.2g} with another before it); use neither, or another attn_implementation"
    )


def _first_and_last(
    model: nn.Module,
    head: nn.Module,
    collate: Callable[[list[dict[str, Any]]], dict[str, Tensor]],
    examples: Iterable[list[int]],
) -> tuple[Tensor, Tensor]:
    """Logits of the first and the last of `examples` in one row, each ``[N, V]``."""
    batch = collate([{"input_ids": ids, "labels": ids} for ids in examples])
    found = supervised_tokens(batch)
    logits, _ = supervised_logits(model, head, batch, found.positions)
    index = found.units.to(logits.device).index
    return logits[index == 0].float(), logits[index == index.max()].float()


def _difference(one: Tensor, other: Tensor) -> float:
    """Relative, in the Euclidean norm."""
    return float((other - one).norm() / one.norm().clamp(min=torch.finfo().tiny))


def _different(token_ids: Iterable[int]) -> list[int]:
    """The first different tokens, at least two."""
    found: dict[int, None] = {}
    for token in token_ids:
        found[token] = None
        if len(found) == N_TOKENS:
            break
    return list(found) if len(found) > 1 else [*found, *found]
