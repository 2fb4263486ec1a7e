"""The writer of the knowledge ledger; `cogcalib.knowledge.ledger` says what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor

from cogcalib.knowledge.ledger import (
    FOLDER,
    SCHEMA,
    drop_after,
    first_absent_step,
    part_name,
)
from cogcalib.losses import FusedParts
from cogcalib.parquet import write_table
from cogcalib.training.collator import EXAMPLE_ID, NUMBER
from cogcalib.training.config import CogCalibConfig
from cogcalib.training.logs import get_logger
from cogcalib.training.packing import LENGTHS
from cogcalib.training.supervision import Units

logger = get_logger(__name__)
_VALUES = ("nll", "threshold", "weight", "penalty", "right", "confidence")
LARGEST = 1_000_000
"""Rows held in memory before they are written."""
WAITING = 256
"""Micro-batches whose rows stay on the device until they are brought over together: on a GPU each
transfer would wait for all that was queued before it."""


def number_examples(
    dataset: Dataset | None, args: CogCalibConfig
) -> tuple[list[str] | None, Dataset | None]:
    """The examples' names if a ledger is kept, and the data set with their numbers beside them.

    The gate ``prior`` goes by the numbers, too.

    Raises:
        ValueError: If the column of numbers is there already, or names repeat.
    """
    if dataset is None or args.gate == "none" or not (args.ledger or args.gate == "prior"):
        return None, dataset
    columns = dataset.column_names
    if LENGTHS in columns:  # packed rows, which the preparation refuses
        return None, dataset
    if NUMBER in columns:
        raise ValueError(
            f"train_dataset must have no column {NUMBER!r}: the ledger and gate='prior' make their "
            "own"
        )
    numbers = list(range(len(dataset)))
    if not args.ledger:
        return None, dataset.add_column(NUMBER, numbers)
    names = list(map(str, dataset[EXAMPLE_ID] if EXAMPLE_ID in columns else numbers))
    if len(set(names)) < len(names):
        again = next(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(
            f"{EXAMPLE_ID} of train_dataset must be distinct, {again!r} comes more than once; "
            "ledger=False trains without a ledger"
        )
    return names, dataset.add_column(NUMBER, numbers)


def open_ledger(
    args: CogCalibConfig, names: Sequence[str] | None, rank: int
) -> LedgerWriter | None:
    """The ledger of a training; None if none is kept."""
    return None if names is None else LedgerWriter(Path(str(args.output_dir)), names, rank)


class LedgerWriter:
    """Collects rows in memory and writes those of some steps into a file of their own.

    Args:
        output: Output folder of the training.
        ids: Names of the training examples, by number.
        rank: Of this process; each writes what it saw.
    """

    def __init__(self, output: Path, ids: Sequence[str], rank: int) -> None:
        self.folder, self._rank = output / FOLDER, rank
        self._names = pa.array(ids, pa.string())
        self._first = self._last = 0
        self._waiting: list[tuple[int, int, Tensor, Tensor]] = []
        self._rows: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = []
        self._size = 0

    def begin(self, step: int, checkpoint: str | None = None) -> None:
        """Go on at `step`: what an earlier process wrote of later steps comes again.

        Warns of earlier steps that are not there: of a checkpoint that was written with another
        output folder, or without a ledger.

        Args:
            step: Optimiser steps done.
            checkpoint: Gone on from, if any.
        """
        self._waiting, self._rows, self._size, self._first = [], [], 0, step
        if self._rank != 0:
            return
        drop_after(self.folder, step)
        absent = first_absent_step(self.folder, step)
        if absent < step:
            logger.warning(
                "The ledger in %s lacks the steps %s to %s, which came before the checkpoint %s: "
                "they were written into another folder, or not at all. Copy the files steps-* of "
                "that training's ledger here to have it whole.",
                self.folder,
                absent,
                step - 1,
                checkpoint,
            )

    def add(
        self,
        step: int,
        epoch: int,
        numbers: Tensor,
        units: Units,
        parts: FusedParts,
        *,
        alpha: float,
        threshold: float,
    ) -> None:
        """Take one micro-batch; write what there is before it takes too much memory.

        Args:
            step: Optimiser steps done.
            epoch: Passes over the training data done.
            numbers: Of its examples in the training data, ``[E]``.
            units: Of its supervised tokens.
            parts: Its loss.
            alpha: Weight of the penalty.
            threshold: In force, nan without one.
        """
        index = units.index.to(parts.nll.device)
        sums = parts.nll.new_zeros(4, len(units)).index_add_(
            1,
            index,
            torch.stack(
                [
                    torch.ones_like(parts.token_ce),
                    parts.token_penalty,
                    parts.correct.to(parts.nll),
                    parts.log_confidence,
                ]
            ),
        )
        size, penalty, correct, log_confidence = sums
        weights = parts.weights.to(parts.nll)
        values = torch.stack(
            [
                parts.nll,
                torch.full_like(parts.nll, threshold),
                weights,
                alpha * weights * penalty / size,
                correct == size,
                log_confidence.exp(),
            ]
        )
        places = torch.stack([numbers.to(units.example)[units.example], units.within_example])
        if self._size > LARGEST and step > self._last:
            self.flush(step)
        self._waiting.append((step, epoch, places, values.float()))
        self._size += len(units)
        self._last = step
        if len(self._waiting) == WAITING:
            self._bring_over()

    def flush(self, step: int) -> None:
        """Write the rows since the last time; `step` optimiser steps are done."""
        self._bring_over()
        if not self._rows:
            self._first = step
            return
        own, seen = (np.concatenate(parts, axis=1) for parts in zip(*self._rows, strict=True))
        numbers, *counts = own
        columns: dict[str, Any] = {"example": self._names.take(pa.array(numbers))}
        columns |= dict(zip(("unit", "epoch", "step"), counts, strict=True))
        columns |= dict(zip(_VALUES, seen, strict=True))
        table = pa.table({name: columns[name] for name in SCHEMA.names}).cast(SCHEMA)
        write_table(self.folder / part_name(self._first, step, self._rank), table)
        self._rows, self._size, self._first = [], 0, step

    def _bring_over(self) -> None:
        """Fetch the rows that wait on the device, in one transfer."""
        if not self._waiting:
            return
        steps, epochs, places, values = zip(*self._waiting, strict=True)
        sizes = [each.shape[1] for each in places]
        counts = [np.repeat(epochs, sizes), np.repeat(steps, sizes)]
        own = np.vstack([torch.cat(places, 1).cpu().numpy(), *counts])
        self._rows.append((own, torch.cat(values, 1).cpu().numpy()))
        self._waiting = []
