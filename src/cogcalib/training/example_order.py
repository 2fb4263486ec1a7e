"""The order of the examples: the same in a training that goes on from a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor
from torch.utils.data import Sampler

ORDER_NAME = "order_state.pth"
"""In a checkpoint within an epoch: the random state that the epoch's order was drawn of."""


class RecordedOrder(Sampler[int]):
    """The order of a sampler that draws from torch's global random numbers.

    By the time of a checkpoint these have gone on, so that an epoch could not be entered again in
    the middle. All processes take the first one's order: their random numbers may have parted.

    Args:
        sampler: Draws an order from the global random numbers each time it is iterated.
        n_processes: That train together.
        checkpoint: Gone on from, if any; the first epoch then has the order it had there.
    """

    def __init__(self, sampler: Any, n_processes: int, checkpoint: str | None) -> None:
        self._sampler, self._n_processes = sampler, n_processes
        path = None if checkpoint is None else Path(checkpoint) / ORDER_NAME
        self._restored: Tensor | None = None
        if path is not None and path.is_file():
            self._restored = torch.load(path, weights_only=True)
        self._state: Tensor | None = None

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[int]:
        here = torch.get_rng_state()
        order = list(self._sampler)  # first, so that the global numbers go on as without us
        state = self._restored
        self._restored = None
        if state is None:
            shared = [here]
            if self._n_processes > 1:
                broadcast_object_list(shared)
            (state,) = shared
        if not torch.equal(state, here):
            with torch.random.fork_rng(devices=[]):
                torch.set_rng_state(state)
                order = list(self._sampler)
        self._state = state
        return iter(order)

    def save(self, checkpoint: Path | str) -> None:
        """Write into a checkpoint what the present epoch's order was drawn of."""
        if self._state is not None:
            torch.save(self._state, Path(checkpoint) / ORDER_NAME)


def set_epoch(loader: Any, epoch: int) -> None:
    """Tell every sampler within a loader the epoch.

    accelerate's loaders and the Trainer reach a few layers deep. On several processes that skip
    the first batches of a resumed epoch, ``batch_rebalance`` lies deeper, and would give the order
    of epoch 0.

    Args:
        loader: What the training iterates.
        epoch: About to begin, counted from 0.
    """
    within = getattr(loader, "batch_sampler", None)
    while within is not None:
        if hasattr(within, "set_epoch"):
            within.set_epoch(epoch)
        within = getattr(within, "batch_sampler", None) or getattr(within, "sampler", None)
