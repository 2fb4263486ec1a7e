"""The time below which no linear layer with a cross-entropy gets, from what a machine can do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class PeakRates:
    """What a matrix product and a copy reach on the machine at hand.

    Attributes:
        flops: Floating-point operations per second of a large square product.
        bytes: Bytes read and written per second by a copy.
    """

    flops: float
    bytes: float

    def floor(self, tokens: int, hidden: int, vocabulary: int, dtype: str, frozen: bool) -> float:
        """Least seconds of forward and backward pass.

        ``2 N H V`` operations for the logits, as many for each gradient; hidden states and weight
        read once, each gradient written once, the logits nowhere. Whatever else there is to do with
        the logits is taken to cost nothing, and moving to hide behind computing.
        """
        products = 2 if frozen else 3
        moved = (2 * tokens + vocabulary * (1 if frozen else 2)) * hidden
        computing = products * 2 * tokens * hidden * vocabulary / self.flops
        moving = moved * getattr(torch, dtype).itemsize / self.bytes
        return max(computing, moving)

    def as_json(self) -> dict[str, Any]:
        """For the results."""
        return asdict(self)


def measure_peak_rates(device: str, dtype: str, quick: bool = False) -> PeakRates:
    """Measure both, the best of several times, on as many threads as torch uses."""
    kind = getattr(torch, dtype)
    width = 64 if quick else 8192 if device == "cuda" else 1536
    size = 2**16 if quick else 2**30 if device == "cuda" else 2**28
    left, right = (torch.randn(width, width, device=device).to(kind) for _ in range(2))
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product = torch.empty_like(left)
    return PeakRates(
        flops=2 * width**3 / _best(lambda: torch.mm(left, right, out=product), device),
        bytes=2 * size / _best(lambda: target.copy_(source), device),
    )


def _best(work: Callable[[], object], device: str, repeats: int = 10) -> float:
    seconds = []
    for _ in range(repeats):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
