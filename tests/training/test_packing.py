"""Packing loses nothing: no example, no option, no label."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from trl import pack_dataset
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from cogcalib.training.collator import CogCalibCollator
from cogcalib.training.packing import examples, pack
from cogcalib.training.supervision import find_units

LENGTH = 12


def make_rows(sizes: list[tuple[int, int | None, bool]]) -> list[dict[str, Any]]:
    """Examples of various lengths; their tokens, options and labels tell which one it is."""
    return [
        {
            "input_ids": [100 * number + t for t in range(length)],
            "labels": [-100] + [100 * number + t for t in range(1, length)],
            "option_ids": None
            if n_options is None
            else [100 * number + k for k in range(n_options)],
            "known": known,
        }
        for number, (length, n_options, known) in enumerate(sizes)
    ]


ROWS = st.lists(
    st.tuples(
        st.integers(2, LENGTH), st.one_of(st.none(), st.just(0), st.integers(2, 20)), st.booleans()
    ),
    min_size=1,
    max_size=8,
).map(make_rows)


def unpacked(packed: Dataset) -> list[dict[str, Any]]:
    tokens = list(examples(packed))
    extra = {
        column: [value for row in packed[column] for value in row]
        for column in ("option_ids", "known")
    }
    return [
        {"input_ids": ids, "labels": labels, "option_ids": options, "known": known}
        for (ids, labels), options, known in zip(tokens, *extra.values(), strict=True)
    ]


@settings(deadline=None, max_examples=25)
@given(rows=ROWS, strategy=st.sampled_from(["bfd", "bfd_split"]))
def test_every_example_comes_out_as_it_went_in(rows: list[dict[str, Any]], strategy: str) -> None:
    packed = pack(Dataset.from_list(rows), LENGTH, strategy, {})
    assert all(len(ids) <= LENGTH for ids in packed["input_ids"])
    out = sorted(unpacked(packed), key=lambda row: row["input_ids"][0])
    assert out == rows


@settings(deadline=None, max_examples=25)
@given(rows=ROWS)
def test_batch_of_packed_rows_tells_each_example_s_options(rows: list[dict[str, Any]]) -> None:
    packed = pack(Dataset.from_list(rows), LENGTH, "bfd", {})
    collate = CogCalibCollator(DataCollatorForLanguageModeling(0, padding_free=True), merges=True)
    batch = collate(list(packed))
    _, units = find_units(batch["labels"], batch["position_ids"])
    assert len(units) == len(batch["option_ids"]) == len(batch["known"]) == len(rows)
    first = batch["labels"][batch["labels"] != -100][units.first]
    found = Counter()
    for target, options, known in zip(first, batch["option_ids"], batch["known"], strict=True):
        row = rows[int(target) // 100]
        assert [o for o in options.tolist() if o != -1] == (row["option_ids"] or [])
        assert bool(known) == row["known"]
        found[int(target)] += 1
    assert set(found.values()) == {1}


def test_rows_are_those_of_trl() -> None:
    rows = make_rows([(5, 2, True), (12, None, False), (4, 0, True), (3, 3, False)])
    dataset = Dataset.from_list(rows)
    tokens = dataset.select_columns(["input_ids", "labels"])
    theirs = list(pack_dataset(tokens, LENGTH, "bfd"))
    ours = pack(dataset, LENGTH, "bfd", {})
    assert list(ours.select_columns(["input_ids", "labels", "seq_lengths"])) == theirs
    assert list(pack(tokens, LENGTH, "bfd", {})) == theirs


def test_examples_of_a_data_set_that_is_not_packed() -> None:
    rows = make_rows([(5, 2, True), (3, None, False)])
    assert list(examples(Dataset.from_list(rows))) == [
        (row["input_ids"], row["labels"]) for row in rows
    ]


def test_collator_that_merges_examples_unasked_is_refused() -> None:
    collate = CogCalibCollator(DataCollatorForLanguageModeling(0, padding_free=True))
    rows = [{"input_ids": [1, 2], "labels": [1, 2]}] * 3
    with pytest.raises(ValueError, match="data_collator made 1 rows of 3 examples"):
        collate(rows)
    collate.merges = True
    assert torch.equal(collate(rows)["position_ids"], torch.tensor([[0, 1, 0, 1, 0, 1]]))
