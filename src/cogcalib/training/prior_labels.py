"""``gate="prior"``: each example labelled known or not when it is first met, once and for all."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor

_UNMET = torch.iinfo(torch.int64).max
_WRITTEN = {-1: ".", 0: "0", 1: "1"}


class PriorLabels:
    """The labels of n training examples, by their numbers.

    Judged by the NLL that an example has in its first forward pass with an open gate, hence before
    the step that learns it there, and the threshold in force at that time. Later passes change
    nothing. What the model learns in training is therefore never taken for prior knowledge.

    On several processes each keeps those that it has met until all `gather` them, once an epoch: no
    example comes twice within one, but for those that fill up its last batches, where the earlier
    label counts.

    Args:
        n: Training examples.
        device: Where the batches are.
    """

    def __init__(self, n: int, device: torch.device) -> None:
        # Twice the step, plus one if known: of two labels the lower number is the earlier one.
        self._met = torch.full((n,), _UNMET, dtype=torch.int64, device=device)

    def of(self, numbers: Tensor) -> Tensor:
        """Labels of some examples, 1 known, 0 not and -1 not met yet, as the gate takes them.

        Args:
            numbers: Of the examples, ``[E]``.
        """
        met = self._met[numbers.to(self._met.device)]
        return torch.where(met == _UNMET, -1, met % 2)

    def note(self, numbers: Tensor, known: Tensor, step: int) -> None:
        """Label those of some examples that have no label yet.

        Args:
            numbers: Of the examples, ``[E]``.
            known: Whether each is known now, ``[E]`` bool.
            step: Optimiser steps done.
        """
        where = numbers.to(self._met.device)
        code = 2 * step + known.to(self._met)
        self._met[where] = torch.minimum(self._met[where], code)

    def restore(self, text: str) -> None:
        """Take the labels that `gather` returned; none of an empty text."""
        self._met.fill_(_UNMET)
        if text:
            labels = torch.tensor([-1 if each == "." else int(each) for each in text])
            labels = labels.to(self._met)
            self._met = torch.where(labels < 0, self._met, labels)

    def gather(self, accelerator: Accelerator) -> str:
        """Bring the labels of all processes to each, and write them: a letter for each example."""
        self._met = accelerator.gather(self._met[None]).amin(0)
        numbers = range(len(self._met))
        return "".join(_WRITTEN[label] for label in self.of(torch.tensor(numbers)).tolist())
