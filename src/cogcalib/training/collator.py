"""Batches: TRL's, and the columns the method needs beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cogcalib.losses import NO_OPTION

OPTION_IDS = "option_ids"
KNOWN = "known"
NUMBER = "example_number"
EXAMPLE_ID = "example_id"
EXTRA_COLUMNS = (OPTION_IDS, KNOWN, NUMBER)


@dataclass
class CogCalibCollator:
    """Adds ``option_ids [E, K]`` (filled up with -1), ``known [E]`` and ``example_number [E]``.

    E is the number of examples, in their order in the batch: one per row, or several in a packed
    row, whose extra columns are lists with an entry for each.

    Attributes:
        inner: The collator that makes ``input_ids``, ``labels`` and what tells examples apart:
            ``attention_mask`` or, if `merges`, ``position_ids``.
        merges: Whether `inner` puts all examples one behind the other into one row.
    """

    inner: Callable[[list[dict[str, Any]]], dict[str, Any]]
    merges: bool = False

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        batch = self.inner(
            [{k: v for k, v in row.items() if k not in EXTRA_COLUMNS} for row in rows]
        )
        if not self.merges and len(batch["labels"]) != len(rows):
            raise ValueError(
                f"data_collator made {len(batch['labels'])} rows of {len(rows)} examples: the gate "
                "could not tell them apart; set padding_free=True instead"
            )
        if OPTION_IDS in rows[0]:
            options = [list(ids or ()) for ids in _of_examples(rows, OPTION_IDS)]
            width = max(map(len, options))
            padded = [ids + [NO_OPTION] * (width - len(ids)) for ids in options]
            batch[OPTION_IDS] = torch.tensor(padded, dtype=torch.long).reshape(len(padded), width)
        if KNOWN in rows[0]:
            batch[KNOWN] = torch.tensor([bool(known) for known in _of_examples(rows, KNOWN)])
        if NUMBER in rows[0]:
            batch[NUMBER] = torch.tensor(_of_examples(rows, NUMBER))
        return batch


def _of_examples(rows: Sequence[Mapping[str, Any]], column: str) -> list[Any]:
    """The column's value for each example; a packed row has a list of them."""
    if "seq_lengths" not in rows[0]:
        return [row[column] for row in rows]
    return [value for row in rows for value in row[column]]
