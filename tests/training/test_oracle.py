"""The gate `oracle` takes truth values for labels, and nothing that merely has one in Python."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset
from tiny_run import make_data, make_trainer

from cogcalib.knowledge.slick_categories import CATEGORIES
from cogcalib.training.column_checks import check_known


def labelled(known: Any) -> Dataset:
    return Dataset.from_dict({"known": known})


@pytest.mark.parametrize(
    "known",
    [
        [True, False, True],
        [1, 0, 1],
        np.array([True, False, True]),
        np.array([1, 0, 1], dtype=np.uint8),
    ],
)
def test_truth_values_are_taken(known: Any) -> None:
    check_known(labelled(known))
    check_known(labelled(known).select([2, 0]))


@pytest.mark.parametrize(
    ("known", "got"),
    [
        (["false", "true"], "'false' in train data set, example 0"),
        ([True, None], "None in train data set, example 1"),
        ([None, None], "None in train data set, example 0"),
        ([1, 0, 2], "2 in train data set, example 2"),
        ([0, -1], "-1 in train data set, example 1"),
        ([1.0, 0.0], r"1\.0 in train data set, example 0"),
        ([[True, False], [False]], r"\[True, False\] in train data set, example 0"),
        ([[], [True]], r"\[\] in train data set, example 0"),
    ],
)
def test_anything_else_is_refused(known: Any, got: str) -> None:
    message = f"True or False, or 1 or 0, in the column 'known' of train_dataset, got {got}$"
    with pytest.raises(ValueError, match=message):
        check_known(labelled(known))


def test_the_example_is_that_of_the_data_set_as_given() -> None:
    with pytest.raises(ValueError, match=r"got 5 in train data set, example 1$"):
        check_known(labelled([5, 0, 1, 1]).select([2, 0, 1]))


def test_rows_that_were_left_out_do_not_count() -> None:
    check_known(labelled([None, True, False]).filter(lambda row: row["known"] is not None))


def test_categories_are_refused_with_the_way_to_make_labels_of_them() -> None:
    known = labelled([CATEGORIES[-1], CATEGORIES[0]])
    with pytest.raises(
        ValueError, match=r"got 'Unknown' in train data set, example 0; .*== 'HighlyKnown'\}"
    ):
        check_known(known)
    advised = known.map(lambda row: {"known": row["known"] == "HighlyKnown"})
    check_known(advised)
    assert list(advised["known"]) == [False, True]


def test_numbers_that_are_names_are_refused() -> None:
    known = labelled([0, 1]).cast_column("known", ClassLabel(names=["HighlyKnown", "Unknown"]))
    with pytest.raises(ValueError, match=r"a ClassLabel of \['HighlyKnown', 'Unknown'\]; make"):
        check_known(known)


def test_the_trainer_refuses_them_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gate='oracle' needs a column 'known'"):
        make_trainer(tmp_path, gate="oracle")
    train = make_data(4).add_column("known", ["Unknown", "HighlyKnown"] * 2)
    with pytest.raises(ValueError, match="got 'Unknown' in train data set, example 0"):
        make_trainer(tmp_path, gate="oracle", train=train)


def test_a_million_rows_take_no_time() -> None:
    known = labelled(np.arange(1_000_000) % 2).shuffle(seed=0)
    start = time.process_time()
    check_known(known)
    assert time.process_time() - start < 2
