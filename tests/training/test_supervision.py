"""Which token belongs to which example and turn, however a batch holds its examples."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cogcalib.modeling.encoding import IGNORED
from cogcalib.training.supervision import UNITS, Unit, Units, find_units, unit_starts

EXAMPLE = st.lists(st.sampled_from([IGNORED, 7]), min_size=2, max_size=9).filter(
    lambda labels: 7 in labels[1:]
)
BATCH = st.lists(EXAMPLE, min_size=1, max_size=5)


def by_hand(examples: list[list[int]], unit: Unit) -> tuple[list[int], list[int], list[bool]]:
    """Unit of each supervised token, example of each unit, and which units compete."""
    index: list[int] = []
    owners: list[int] = []
    competes: list[bool] = []
    for number, labels in enumerate(examples):
        gap, first, competitor = True, len(owners), 0
        for label in labels[1:]:
            if label == IGNORED:
                gap = True
                continue
            if len(owners) == first or unit == "token" or (unit == "turn" and gap):
                owners.append(number)
                competitor = len(owners) - 1 if gap else competitor
            gap = False
            index.append(len(owners) - 1)
        competes += [unit == competitor for unit in range(first, len(owners))]
    return index, owners, competes


def rows(examples: list[list[int]]) -> torch.Tensor:
    width = max(map(len, examples))
    return torch.tensor([labels + [IGNORED] * (width - len(labels)) for labels in examples])


def one_row(examples: list[list[int]], fill: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    labels = [label for example in examples for label in example] + [IGNORED] * fill
    positions = [t for example in examples for t in range(len(example))] + [0] * fill
    return torch.tensor([labels]), torch.tensor([positions])


@given(examples=BATCH, unit=st.sampled_from(UNITS), fill=st.integers(0, 3))
def test_rows_and_one_row_hold_the_same_units(
    examples: list[list[int]], unit: Unit, fill: int
) -> None:
    expected = by_hand(examples, unit)
    for labels, positions in ((rows(examples), None), one_row(examples, fill)):
        predicted, units = find_units(labels, positions, unit)
        found = (units.index.tolist(), units.example.tolist(), units.competes.tolist())
        assert found == expected
        assert predicted.sum() == len(units.index)
        assert (labels[predicted] == 7).all()
        assert not predicted[:, 0].any()


@given(labels=EXAMPLE, unit=st.sampled_from(UNITS))
def test_starts_of_units_without_tensors(labels: list[int], unit: Unit) -> None:
    predicted, units = find_units(torch.tensor([labels]), None, unit)
    assert predicted[0].nonzero()[:, 0][units.first].tolist() == unit_starts(labels, unit)


def test_first_label_of_an_example_in_one_row_is_not_predicted() -> None:
    labels, positions = torch.tensor([[7, 7, 7, 7, 7]]), torch.tensor([[0, 1, 0, 1, 2]])
    predicted, units = find_units(labels, positions, "turn")
    assert predicted.tolist() == [[False, True, False, True, True]]
    assert units.index.tolist() == [0, 1, 1]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("merged", [False, True])
def test_nothing_supervised(unit: Unit, merged: bool) -> None:
    positions = torch.tensor([[0, 1, 0, 1]]) if merged else None
    predicted, units = find_units(torch.full((1, 4), IGNORED), positions, unit)
    assert not predicted.any()
    assert len(units) == len(units.index) == len(units.first) == 0
    assert units.options_at_first(torch.tensor([[1, 2]])).shape == (0, 2)


def test_row_without_supervised_token_keeps_the_others_examples() -> None:
    labels = torch.tensor([[0, 7, 7], [0, IGNORED, IGNORED], [0, IGNORED, 7]])
    _, units = find_units(labels)
    assert units.index.tolist() == [0, 0, 1]
    assert units.example.tolist() == [0, 2]


def test_options_belong_to_the_last_unit_and_labels_to_all() -> None:
    competes = torch.tensor([False, True, True])
    units = Units(torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 0, 1]), competes)
    assert units.of_examples(torch.tensor([True, False])).tolist() == [True, True, False]
    options = torch.tensor([[3, 4], [5, -1]])
    assert units.options(options).tolist() == [[-1, -1], [3, 4], [5, -1]]
    assert units.options_at_first(options).tolist() == [
        [-1, -1],
        [-1, -1],
        [3, 4],
        [-1, -1],
        [5, -1],
    ]


@given(BATCH, st.sampled_from(UNITS))
def test_units_are_counted_within_their_example(examples: list[list[int]], unit: Unit) -> None:
    _, units = find_units(rows(examples), unit=unit)
    seen: list[int] = []
    for owner in units.example.tolist():
        seen.append(owner)
        assert units.within_example[len(seen) - 1] == seen.count(owner) - 1
