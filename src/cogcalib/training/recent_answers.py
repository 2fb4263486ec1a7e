"""The answers of the examples last trained on, as the forward passes of the training saw them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from accelerate.utils import gather_object
from torch import Tensor

Row = tuple[int, float, float]
"""Optimiser steps done, NLL of the model's own answer in nats, 1 if that is right and else 0."""


class RecentAnswers:
    """Keeps the units of the latest whole steps that make at least a number together.

    Each was seen before the step that learns it. On several processes each keeps its own until all
    `gather` them.

    Args:
        size: The number.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._steps: deque[tuple[int, list[Tensor]]] = deque()
        self._held = 0

    def add(self, step: int, found: Tensor) -> None:
        """Take one micro-batch.

        Args:
            step: Optimiser steps done.
            found: What `own_answers` made of it, ``[2, U]``.
        """
        if not self._steps or self._steps[-1][0] != step:
            self._steps.append((step, []))
        self._steps[-1][1].append(found)
        self._held += found.shape[1]
        while self._held - (first := _count(self._steps[0][1])) >= self.size:
            self._steps.popleft()
            self._held -= first

    def gather(self, before: Sequence[Row]) -> list[Row]:
        """The latest of all processes, in an order that tells nothing of them.

        Args:
            before: What was gathered the last time.
        """
        local: list[Row] = []
        for step, batches in self._steps:
            own, right = torch.cat(batches, 1).cpu().tolist()
            local += [(step, *each) for each in zip(own, right, strict=True)]
        self._steps.clear()
        self._held = 0
        everyone: list[list[Row]] = gather_object([local])
        rows = sorted([*before, *(row for part in everyone for row in part)])
        first = rows[-self.size][0] if len(rows) >= self.size else 0
        return [row for row in rows if row[0] >= first]


def _count(batches: Sequence[Tensor]) -> int:
    return sum(batch.shape[1] for batch in batches)
