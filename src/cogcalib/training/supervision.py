"""Supervised tokens, and the units they are judged in: a whole example, one turn, or one token.

A batch holds its examples either one per row or, padding-free and packed, one behind the other in
a single row, where ``position_ids`` start anew with each. Which token belongs to which unit is
decided here, and only here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from cogcalib.losses import NO_OPTION
from cogcalib.modeling.encoding import IGNORED

Unit = Literal["example", "turn", "token"]
UNITS: tuple[Unit, ...] = get_args(Unit)


@dataclass(frozen=True, slots=True)
class Units:
    """The U units of the N supervised tokens of a batch.

    Attributes:
        index: Unit each token belongs to, ascending from 0, ``[N]``.
        example: Example each unit is part of, ascending, ``[U]``.
        competes: Whether its first token is where an example's options compete, ``[U]`` bool: in
            the last answer of its example.
    """

    index: Tensor
    example: Tensor
    competes: Tensor

    def __len__(self) -> int:
        return len(self.example)

    @property
    def first(self) -> Tensor:
        """Whether a token is the first one of its unit, ``[N]`` bool."""
        return _changes(self.index)

    @property
    def within_example(self) -> Tensor:
        """Number of each unit in its example, from 0, ``[U]``."""
        first = _changes(self.example)
        place = torch.arange(len(self), device=first.device)
        return place - torch.where(first, place, 0).cummax(0).values

    def of_examples(self, values: Tensor) -> Tensor:
        """What is said of the examples, ``[E, ...]``, said of their units, ``[U, ...]``."""
        return values.to(self.example.device)[self.example]

    def options(self, option_ids: Tensor) -> Tensor:
        """The examples' options ``[E, K]`` as those of the units that compete: ``[U, K]``."""
        return self.of_examples(option_ids).masked_fill(~self.competes[:, None], NO_OPTION)

    def options_at_first(self, option_ids: Tensor) -> Tensor:
        """The options at the token where they compete, -1 elsewhere: ``[N, K]``."""
        return self.options(option_ids)[self.index].masked_fill(~self.first[:, None], NO_OPTION)

    def to(self, device: torch.device) -> Units:
        """The same on `device`."""
        return Units(self.index.to(device), self.example.to(device), self.competes.to(device))


def find_units(
    labels: Tensor, position_ids: Tensor | None = None, unit: Unit = "example"
) -> tuple[Tensor, Units]:
    """Which labels are predicted, and the unit each of them belongs to.

    Args:
        labels: ``[R, T]``; position *t - 1* predicts the label of position *t*, so that the first
            label of an example is not predicted, whatever it is.
        position_ids: ``[R, T]``, 0 wherever an example starts, every one of which has a supervised
            token; None: each row is an example.
        unit: ``example``: all its predicted labels; ``turn``: each run of them without a gap;
            ``token``: each by itself.

    Returns:
        The predicted labels, ``[R, T]`` bool, and their units, in the order of the batch.
    """
    starts = torch.zeros_like(labels, dtype=torch.bool)
    starts[:, 0] = True
    if position_ids is not None:
        starts |= position_ids == 0
    predicted = (labels != IGNORED) & ~starts
    example = (starts.flatten().cumsum(0) - 1)[predicted.flatten()]
    if position_ids is not None:  # what fills the row up to a multiple is no example
        example = _ranks(example)
    # The first label of an example is never predicted, so that no run crosses a boundary.
    opens = (predicted & ~predicted.roll(1, dims=1)).flatten()[predicted.flatten()]
    index = {
        "example": lambda: _ranks(example),
        "turn": lambda: opens.cumsum(0) - 1,
        "token": lambda: torch.arange(len(example), device=example.device),
    }[unit]()
    first = _changes(index)
    return predicted, Units(index, example[first], _last_of_each(opens[first], example[first]))


@dataclass(frozen=True, slots=True)
class SupervisedTokens:
    """The N supervised tokens of a batch of R rows.

    Attributes:
        positions: Whose hidden state predicts a supervised token, ``[R, T]`` bool.
        targets: Those tokens, ``[N]``.
        units: What each token is part of: an example, a turn, or itself.
        options: Token ids of the options that compete at a token, -1 elsewhere, ``[N, K]``; None
            if the batch has none.
    """

    positions: Tensor
    targets: Tensor
    units: Units
    options: Tensor | None = None

    def n_options(self) -> Tensor:
        """How many options compete in each unit, ``[U]``; 2, which is harmless, where none do."""
        counts = self.targets.new_full((len(self.units),), 2)
        if self.options is not None:
            here = (self.options != NO_OPTION).sum(1)
            counts.scatter_reduce_(0, self.units.index, here, "amax")
        return counts

    def to(self, device: torch.device) -> SupervisedTokens:
        """The same on `device`; the positions stay where the inputs are."""
        options = None if self.options is None else self.options.to(device)
        return SupervisedTokens(
            self.positions, self.targets.to(device), self.units.to(device), options
        )


def supervised_tokens(
    inputs: Mapping[str, Any], unit: Unit = "example", option_ids: Tensor | None = None
) -> SupervisedTokens:
    """Find the supervised tokens of a batch.

    Args:
        inputs: A batch with ``labels``; position *t* predicts the label of position *t + 1*. An
            example per row and an ``attention_mask``, or ``position_ids`` that start anew with
            each of the examples in one row, and no mask.
        unit: What is judged as one.
        option_ids: Of the examples, ``[E, K]``, filled up with -1; or None.
    """
    labels = inputs["labels"]
    merged = "attention_mask" not in inputs
    predicted, units = find_units(labels, inputs.get("position_ids") if merged else None, unit)
    options = None if option_ids is None else units.options_at_first(option_ids)
    # Rolled by one: the first label of a row is never predicted.
    return SupervisedTokens(predicted.roll(-1, dims=1), labels[predicted], units, options)


def unit_starts(labels: Sequence[int], unit: Unit) -> list[int]:
    """Where the units of one example start: `find_units` for data sets, without tensors."""
    runs = [
        t
        for t in range(1, len(labels))
        if labels[t] != IGNORED and (t == 1 or labels[t - 1] == IGNORED)
    ]
    if unit == "token":
        return [t for t in range(1, len(labels)) if labels[t] != IGNORED]
    return runs if unit == "turn" else runs[:1]


def has_prompt(labels: Sequence[int]) -> bool:
    """Whether an example is a question and its answer, and not a text that is learnt whole."""
    return labels[0] == IGNORED


def competing_start(labels: Sequence[int], unit: Unit) -> int | None:
    """Where an example's options compete, None if nothing is supervised: `Units.competes` for
    data sets."""
    starts = unit_starts(labels, "turn" if unit == "token" else unit)
    return starts[-1] if starts else None


def _last_of_each(chosen: Tensor, example: Tensor) -> Tensor:
    """The last unit chosen of each example, ``[U]`` bool, given the units' examples, ascending."""
    so_far = chosen.cumsum(0)
    last = _changes(example.flip(0)).flip(0)
    return chosen & (so_far == so_far[last][_ranks(example)])


def _changes(values: Tensor) -> Tensor:
    """Whether a value differs from the one before it; the first does."""
    return torch.cat([torch.ones_like(values[:1], dtype=torch.bool), values[1:] != values[:-1]])


def _ranks(values: Tensor) -> Tensor:
    """Ascending values counted from 0 without gaps."""
    return _changes(values).cumsum(0) - 1
