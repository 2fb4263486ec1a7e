"""Columns beside those of a format, rows that are no text, and a training that cannot go well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from datasets import Dataset
from tiny_run import make_data, make_model, make_rows, make_trainer

from cogcalib.records import InputError

ROWS = make_rows(16)


def with_column(**more: Any) -> Dataset:
    return Dataset.from_list([{**row, **more} for row in ROWS])


def test_a_column_of_text_beside_prompt_and_completion_changes_nothing(tmp_path: Path) -> None:
    """TRL appends the end token to it, and leaves the answers without."""
    plain = make_trainer(tmp_path, train=Dataset.from_list(ROWS)).train_dataset
    beside = make_trainer(tmp_path, train=with_column(text="w1 w2")).train_dataset
    assert beside["input_ids"] == plain["input_ids"]
    assert beside["labels"] == plain["labels"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"labels": 1}, "a column 'labels', which goes with them alone"),
        ({"completion_mask": [1]}, "a column 'completion_mask', which goes with them alone"),
        ({"option_ids": [6, 7]}, "only one can say what competes"),
        ({"prompt": 3}, "example 0: the prompt must be text or a list of messages, got 3"),
        ({"completion": 7}, "example 0: the completion must be text or a list of messages, got 7"),
        ({"completion": [1, 2]}, r"the completion must be text or a list of messages, got \[1, 2"),
    ],
)
def test_columns_that_mean_something_else_are_refused(
    more: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=told):
        make_trainer(tmp_path, train=with_column(**more), support="options")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (ROWS, r"got list: make it one by Dataset.from_list"),
        (pd.DataFrame(ROWS), r"got DataFrame: make it one by Dataset.from_pandas"),
        (Dataset.from_list(ROWS).data.table, r"got Table: make it one by Dataset\(table\)"),
        (iter(ROWS), "got list_iterator: a stream cannot be checked"),
    ],
)
def test_what_is_no_data_set_is_told_how_to_become_one(
    given: Any, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"train_dataset must be a datasets.Dataset, {told}"):
        make_trainer(tmp_path, train=given)


def test_a_format_of_some_columns_hides_none(tmp_path: Path) -> None:
    rows = Dataset.from_list(ROWS)
    shown = rows.with_format("numpy", columns=["prompt", "completion"])
    found = make_trainer(tmp_path, train=shown, support="options").train_dataset
    assert found["option_ids"] == make_trainer(tmp_path, train=rows).train_dataset["option_ids"]


def test_no_batch_to_train_on_is_refused(tmp_path: Path) -> None:
    settings = {"per_device_train_batch_size": 17, "dataloader_drop_last": True}
    with pytest.raises(ValueError, match="train_dataset has 16 examples, a batch has 17"):
        make_trainer(tmp_path, train=Dataset.from_list(ROWS), **settings)


def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    model = make_model()
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    trainer = make_trainer(tmp_path, model=model, train=make_data(16))
    with pytest.raises(InputError, match=r"has diverged: at step .* lower learning_rate"):
        trainer.estimate_threshold()
