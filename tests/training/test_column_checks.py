"""Every column of tokens that reaches the loss is checked before the training begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset, Features, Sequence, Value
from tiny_run import make_data, make_rows, make_trainer

from cogcalib.training.column_checks import check_token_columns

ROW: dict[str, Any] = {"input_ids": [11, 12, 6, 1], "labels": [-100, -100, 6, 1]}


def tokenised(second: dict[str, Any] | None = None, **columns: Any) -> Dataset:
    row = {**ROW, **columns}
    return Dataset.from_list([row, {**row, "input_ids": [13, 12, 6, 1], **(second or {})}])


def build(tmp_path: Path, train: Dataset, **settings: Any) -> Any:
    return make_trainer(tmp_path, train=train, gate="all", calibration=None, **settings)


@pytest.mark.parametrize(
    ("option_ids", "message"),
    [
        ([6, 7, -100], r"example 1: option_ids has -100, which is no token, in \[6, 7, -100\]"),
        ([6, -1], r"example 1: option_ids needs two or more tokens, each once, got \[6\]"),
        ([-1, -1], r"example 1: option_ids needs two or more tokens, each once, got \[\]"),
        ([6, 7, -5], "example 1: option_ids has -5, which is no token"),
        ([6, 6, 6, 6], r"example 1: option_ids needs two or more tokens, each once"),
        ([6], r"example 1: option_ids needs two or more tokens, each once, got \[6\]"),
        ([6, 7, 7], "example 1: option_ids needs two or more tokens, each once"),
        ([6, 56], "example 1: option_ids holds 56, each must be a token of the model, 0 to 55"),
        ([6, None], "example 1: option_ids has None among its values"),
    ],
)
@pytest.mark.parametrize("support", ["vocab", "options"])
def test_option_ids_that_would_be_believed(
    tmp_path: Path, option_ids: list[int | None], message: str, support: str
) -> None:
    train = tokenised({"option_ids": option_ids}, option_ids=[6, 7])
    with pytest.raises(ValueError, match=f"train data set, {message}"):
        build(tmp_path, train, support=support)


@pytest.mark.parametrize("kind", ["float64", "string"])
def test_option_ids_that_are_no_whole_numbers(tmp_path: Path, kind: str) -> None:
    ids = [6.0, 7.5] if kind == "float64" else ["6", "7"]
    with pytest.raises(ValueError, match="option_ids must hold lists of whole numbers, got list"):
        build(tmp_path, tokenised(option_ids=ids))


def test_one_number_in_the_place_of_a_list(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="option_ids must hold lists of whole numbers, got int64"):
        build(tmp_path, tokenised(option_ids=6))


def test_examples_may_differ_in_their_options_or_have_none(tmp_path: Path) -> None:
    build(tmp_path, tokenised({"option_ids": [6, 7, 8]}, option_ids=[6, 7])).train()
    build(tmp_path, tokenised({"option_ids": []}, option_ids=[6, 7])).train()
    build(tmp_path, tokenised({"option_ids": None}, option_ids=[6, 7])).train()
    build(tmp_path, tokenised(option_ids=[])).train()


@pytest.mark.parametrize("given", [[6.0, 7.0], [6, 7, -1]])
def test_whole_numbers_and_the_filler_of_batches(tmp_path: Path, given: list[float]) -> None:
    losses = []
    for option_ids in (given, [6, 7]):
        trainer = build(tmp_path, tokenised(option_ids=option_ids), support="options")
        trainer.train()
        losses.append([row["penalty"] for row in trainer.state.log_history if "penalty" in row])
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"labels": [-100, -100, 6, 56]}, "labels holds 56, each must be a token of the model"),
        ({"labels": [-100, -100, 6, -1]}, "labels holds -1, each must be a token of the model"),
        ({"input_ids": [56, 12, 6, 1]}, "input_ids holds 56"),
        ({"input_ids": [-1, 12, 6, 1]}, "input_ids holds -1"),
        ({"input_ids": None}, "input_ids is None"),
        ({"labels": None}, "labels is None"),
        ({"labels": [-100, -100, 6, None]}, "labels has None among its values"),
    ],
)
@pytest.mark.parametrize("name", ["train", "calibration", "eval"])
def test_tokens_that_the_model_does_not_have(
    tmp_path: Path, second: dict[str, Any], message: str, name: str
) -> None:
    good, bad = tokenised(), tokenised(second, input_ids=[14, 12, 6, 1])
    with pytest.raises(ValueError, match=f"{name} data set, example 1: {message}"):
        make_trainer(
            tmp_path,
            train=bad if name == "train" else good,
            calibration=bad if name == "calibration" else None,
            gate="nll" if name == "calibration" else "all",
            sft_arguments={"eval_dataset": bad} if name == "eval" else {},
        )


def test_an_evaluation_that_comes_later_is_checked_too(tmp_path: Path) -> None:
    trainer = build(tmp_path, tokenised())
    with pytest.raises(ValueError, match="eval data set, example 0: labels holds 60"):
        trainer.evaluate(tokenised(labels=[-100, -100, 6, 60]))


def test_packed_examples_are_checked(tmp_path: Path) -> None:
    train = tokenised({"option_ids": [6, 56]}, option_ids=[6, 7])
    with pytest.raises(ValueError, match="option_ids holds 56"):
        build(tmp_path, train, packing=True, max_length=16)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("completion_mask", [0, 0, 1], "example 1: 4 input_ids but 3 completion_mask"),
        ("completion_mask", [0, 0, 0, 1, 1], "example 1: 4 input_ids but 5 completion_mask"),
        ("completion_mask", [0, 0, -100, 1], "example 1: completion_mask holds -100"),
        ("completion_mask", [0, 0, 2, 1], "example 1: completion_mask holds 2"),
        ("assistant_masks", [0, 0, 0, 1, 1], "example 1: 4 input_ids but 5 assistant_masks"),
        ("assistant_masks", [0, 0, None, 1], "example 1: assistant_masks has None"),
    ],
)
def test_masks_that_do_not_align(
    tmp_path: Path, column: str, values: list[int | None], message: str
) -> None:
    train = tokenised({column: values}, **{column: [0, 0, 1, 1]}).remove_columns("labels")
    with pytest.raises(ValueError, match=f"train data set, {message}"):
        build(tmp_path, train, completion_only_loss=True)


def test_a_mask_of_truth_values_is_one(tmp_path: Path) -> None:
    train = tokenised(completion_mask=[False, False, True, True]).remove_columns("labels")
    trainer = build(tmp_path, train, completion_only_loss=True)
    assert list(trainer.train_dataset["labels"]) == [ROW["labels"]] * 2


def test_what_the_collator_leaves_out_must_not_matter(tmp_path: Path) -> None:
    padded = {"input_ids": [0, 12, 6, 1], "attention_mask": [0, 1, 1, 1]}
    with pytest.raises(ValueError, match="example 1: attention_mask hides token 0, before what"):
        build(tmp_path, tokenised(padded, attention_mask=[1] * 4))
    masked = tokenised({"attention_mask": [1, 1, 1, 0]}, attention_mask=[1] * 4)
    masked = masked.remove_columns("labels").add_column("completion_mask", [[0, 0, 1, 0]] * 2)
    build(tmp_path, masked, completion_only_loss=True)
    behind = {"labels": [-100, 12, -100, -100], "attention_mask": [1, 1, 1, 0]}
    build(tmp_path, tokenised(behind, attention_mask=[1] * 4))
    with pytest.raises(ValueError, match="example 1: position_ids holds 0, each must be its place"):
        build(tmp_path, tokenised({"position_ids": [0, 1, 0, 1]}, position_ids=[0, 1, 2, 3]))
    check_token_columns(tokenised(position_ids=[0, 1, 0, 1]), "train", own_collator=True)


def test_shifted_labels_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    build(tmp_path, tokenised())
    assert "Labels are not to be shifted" not in caplog.text
    build(tmp_path, tokenised(labels=[-100, 6, 1, -100]))
    assert "example 0: a supervised label is not the token it stands at, in 2 of 2" in caplog.text


FORMATS = ["torch", "numpy", "pandas", "arrow"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", ["text", pytest.param("tokenised", marks=pytest.mark.slow)])
def test_any_format_trains_what_python_s_does(tmp_path: Path, form: str, kind: str) -> None:
    def data(n: int, seed: int) -> Dataset:
        rows = make_data(n, seed)
        if kind == "text":
            return rows
        plain = build(tmp_path / "plain", rows).train_dataset
        return plain.select_columns(["input_ids", "labels", "option_ids"])

    trained = []
    for given in (None, form):
        trainer = make_trainer(
            tmp_path / str(given),
            train=data(16, 0).with_format(given),
            calibration=data(12, 1).with_format(given),
            support="options",
            sft_arguments={"eval_dataset": data(8, 2).with_format(given)},
        )
        trainer.train()
        trained.append((trainer.evaluate()["eval_loss"], trainer.model.state_dict()))
    assert trained[0][0] == trained[1][0]
    for name, weight in trained[0][1].items():
        assert torch.equal(weight, trained[1][1][name]), name


def test_pandas_frames_and_numpy_arrays_as_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"input_ids": [np.array([11, 12, 6, 1])] * 2, "labels": [np.array([-100, -100, 6, 1])] * 2}
    )
    frame["option_ids"] = [np.array([6, 7]), np.array([6, 8])]
    build(tmp_path, Dataset.from_pandas(frame), support="options").train()


def test_fixed_and_small_number_types(tmp_path: Path) -> None:
    features = Features(
        {
            "input_ids": Sequence(Value("int32")),
            "labels": Sequence(Value("int64")),
            "option_ids": Sequence(Value("int16"), length=2),
        }
    )
    build(tmp_path, tokenised(option_ids=[6, 7]).cast(features), support="options").train()


def test_a_transform_is_refused(tmp_path: Path) -> None:
    for name in ("train", "calibration"):
        with pytest.raises(ValueError, match=f"{name}_dataset has a transform"):
            make_trainer(tmp_path, **{name: make_data(8, seed=3).with_transform(lambda rows: rows)})


@pytest.mark.parametrize(
    "options",
    [[" A", None], [" A", ""], [None, None], [" A", " B", None]],
)
@pytest.mark.parametrize("name", ["train", "calibration"])
def test_options_with_gaps(tmp_path: Path, options: list[str | None], name: str) -> None:
    rows = make_rows(8, seed=3)
    rows[4] = {**rows[4], "options": options}
    with pytest.raises(ValueError, match=f"{name} data set, example 4: options must be a list of"):
        make_trainer(tmp_path, **{name: Dataset.from_list(rows)})


@pytest.mark.parametrize("options", [[1, 2], "AB", [[" A"], [" B"]]])
def test_options_that_are_no_texts(tmp_path: Path, options: Any) -> None:
    rows = [{**row, "options": options} for row in make_rows(8)]
    with pytest.raises(ValueError, match="train data set, example 0: options must be a list of"):
        make_trainer(tmp_path, train=Dataset.from_list(rows))
