"""Batches: TRL's, and the columns the method needs beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cogcalib.losses import NO_OPTION

OPTION_IDS = "option_ids"
KNOWN = "known"
EXTRA_COLUMNS = (OPTION_IDS, KNOWN)


@dataclass
class CogCalibCollator:
    """Adds ``option_ids [B, K]`` (filled up with -1) and ``known [B]`` to the inner batch.

    Attributes:
        inner: The collator that makes ``input_ids``, ``labels`` and ``attention_mask``.
    """

    inner: Callable[[list[dict[str, Any]]], dict[str, Any]]

    def __call__(self, rows: list[Mapping[str, Any]]) -> dict[str, Any]:
        batch = self.inner(
            [{k: v for k, v in row.items() if k not in EXTRA_COLUMNS} for row in rows]
        )
        if OPTION_IDS in rows[0]:
            options = [row[OPTION_IDS] or [] for row in rows]
            width = max(map(len, options))
            padded = [ids + [NO_OPTION] * (width - len(ids)) for ids in map(list, options)]
            batch[OPTION_IDS] = torch.tensor(padded, dtype=torch.long).reshape(len(rows), width)
        if KNOWN in rows[0]:
            batch[KNOWN] = torch.tensor([bool(row[KNOWN]) for row in rows])
        return batch
