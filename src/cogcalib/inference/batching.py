"""Sequences in batches of like length, over as many processes and as little memory as there are.

Results do not depend on any of it beyond rounding. On a CPU they are the same to the bit for any
number of processes, because whole batches are dealt.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

T = TypeVar("T")

TOKENS = 1024
"""Tokens a batch starts with. On a CPU it stays: larger batches leave the caches and are slower."""

MOST_TOKENS = 2**19
"""Tokens a batch may grow to; beyond, no accelerator gains anything."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How large a batch may be: a number of rows, or of tokens with their padding.

    Attributes:
        size: Rows if `in_rows`, else tokens.
        in_rows: What `size` counts.
        grows: Whether a batch that fitted may be followed by a larger one.
    """

    size: int
    in_rows: bool
    grows: bool

    def rows(self, longest: int) -> int:
        """How many sequences of at most `longest` tokens fit; never none."""
        return self.size if self.in_rows else max(1, self.size // max(1, longest))

    def after(self, fitted: bool, rows: int, longest: int) -> Limit:
        """The limit of the next batch, now that one of `rows` sequences fitted or did not."""
        if not fitted:
            half = rows // 2
            return replace(self, size=half if self.in_rows else half * longest, grows=False)
        if self.grows and rows == self.rows(longest):
            return replace(self, size=min(2 * self.size, MOST_TOKENS))
        return self


def first_limit(batch_size: int | None, device: torch.device) -> Limit:
    """The limit of the first batch: so many sequences, or a budget of tokens."""
    if batch_size is not None:
        return Limit(batch_size, in_rows=True, grows=False)
    return Limit(TOKENS, in_rows=False, grows=device.type != "cpu")


def by_length(
    lengths: Sequence[int],
    work: Callable[[list[int]], Sequence[T]],
    device: torch.device,
    *,
    batch_size: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[T]:
    """The results of `work` on every sequence, in the order given, on every process.

    The longest come first, so that a lack of memory shows at once; then the batch is halved and
    tried again, and no later one is larger. If several processes run (``accelerate launch``), all
    must call this with the same `lengths`.

    Args:
        lengths: Tokens of each sequence, as they take memory.
        work: Called with indices into `lengths`; returns a result for each, off the device. What it
            gives for a sequence must not depend on the batch.
        device: Where `work` computes.
        batch_size: Most sequences in a batch; None lets a budget of tokens decide, which grows on
            an accelerator while it fits.
        progress: Called after each batch with the number of sequences this process has done.
    """
    rank, processes = process()
    limit = first_limit(batch_size, device)
    units = list(_units(lengths, limit))
    mine = [i for unit in units[rank::processes] for i in unit]
    found: dict[int, T] = {}
    while len(found) < len(mine):
        longest = lengths[mine[len(found)]]
        batch = mine[len(found) : len(found) + limit.rows(longest)]
        results = _attempt(work, batch)
        limit = limit.after(results is not None, len(batch), longest)
        if results is None:
            clear_device_cache()
            continue
        found.update(zip(batch, results, strict=True))
        if progress is not None:
            progress(len(found))
    if processes > 1:
        found = {index: row for part in gather_object([found]) for index, row in part.items()}
    return [found[index] for index in range(len(lengths))]


def process() -> tuple[int, int]:
    """The number of this process and of all that were launched together."""
    launched = torch.distributed.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) > 1
    if not launched:
        return 0, 1  # and accelerate's state stays as whoever trains next wants it
    # Without an accelerator it must be told, or it takes every process for the only one.
    state = PartialState(cpu=not torch.accelerator.is_available())
    return int(state.process_index), int(state.num_processes)


def from_main(work: Callable[[], T]) -> T:
    """What `work` gives in the first process, in all of them; what it raises all raise.

    For whatever looks at or touches files: they may change between one process and the next.
    """
    rank, processes = process()
    if processes == 1:
        return work()
    outcome: list[Any] = [None, None]
    if rank == 0:
        try:
            outcome[0] = work()
        except (ValueError, OSError) as error:
            outcome[1] = error
    result, refused = broadcast_object_list(outcome)
    if refused is not None:
        raise refused
    given: T = result
    return given


def _units(lengths: Sequence[int], limit: Limit) -> Iterator[list[int]]:
    """Batches as they would be if the limit stayed: what is dealt to the processes."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    start = 0
    while start < len(order):
        unit = order[start : start + limit.rows(lengths[order[start]])]
        yield unit
        start += len(unit)


def _attempt(work: Callable[[list[int]], Sequence[T]], batch: list[int]) -> Sequence[T] | None:
    """The results, or None if the memory did not suffice for more than one sequence."""
    try:
        return work(batch)
    except RuntimeError as error:
        short = isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)
        if not short or len(batch) == 1:
            raise
    # Out of the handler: the traceback held the tensors.
    return None
