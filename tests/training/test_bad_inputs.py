"""Data and combinations that would train something else than meant are refused by name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict, IterableDatasetDict
from peft import PromptTuningConfig
from tiny_run import make_data, make_model, make_rows, make_tokenizer, make_trainer
from trl import SFTConfig, SFTTrainer

from cogcalib.training import CogCalibTrainer
from cogcalib.training.checks import (
    refuse_processes_apart,
    refuse_shared_batches,
    refuse_split_sequences,
)
from cogcalib.training.dataset_checks import check_disjoint
from cogcalib.training.text import check_text


def changed(index: int, **columns: Any) -> Dataset:
    rows = make_rows(8)
    rows[index] = {**rows[index], **columns}
    return Dataset.from_list(rows)


def tokenised(**columns: Any) -> Dataset:
    row = {"input_ids": [11, 12, 6, 1], "labels": [-100, -100, 6, 1], **columns}
    return Dataset.from_list([row, {**row, "input_ids": [13, 12, 6, 1]}])


@pytest.mark.parametrize("gate", ["nll", "random", "inverted", "soft"])
def test_gates_with_a_threshold_need_calibration_data(tmp_path: Path, gate: str) -> None:
    message = f"gate='{gate}' needs a calibration_dataset .* 32 different questions, 200 are needed"
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, gate=gate, calibration=None)


@pytest.mark.parametrize("gate", ["none", "all", "oracle"])
def test_gates_without_a_threshold_do_not(tmp_path: Path, gate: str) -> None:
    train = make_data(8).add_column("known", [True, False] * 4)
    trainer = make_trainer(tmp_path, gate=gate, calibration=None, train=train)
    trainer.train()
    assert trainer.threshold_history == []


def test_automatic_style_phase_needs_calibration_data(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="style_steps='auto' needs a calibration_dataset"):
        make_trainer(tmp_path, gate="all", style_steps="auto", calibration=None)


def test_support_options_needs_options(tmp_path: Path) -> None:
    plain = make_data(8).remove_columns("options")
    calibration = make_data(8, seed=1).remove_columns("options")
    wanted = "needs a column 'option_ids' or 'options' in train_dataset; add one, or leave support"
    with pytest.raises(ValueError, match=f"support='options' {wanted} out"):
        make_trainer(tmp_path, support="options", train=plain, calibration=calibration)
    with pytest.raises(ValueError, match="train data set, example 3 has no options"):
        make_trainer(tmp_path, support="options", train=changed(3, options=[]))


@pytest.mark.parametrize("gate", ["nll", "none"])
@pytest.mark.parametrize("other_answer", [False, True])
def test_leak_of_calibration_into_train_is_refused(
    tmp_path: Path, gate: str, other_answer: bool
) -> None:
    rows = make_rows(12)
    leaked = rows[4:7]
    if other_answer:  # the question alone is a leak
        leaked = [
            {**row, "completion": " B" if row["completion"] == " A" else " A"} for row in leaked
        ]
    calibration = Dataset.from_list(make_rows(5, seed=1) + leaked)
    with pytest.raises(ValueError, match=r"3 of its 8 examples .* first is example 5"):
        make_trainer(tmp_path, train=Dataset.from_list(rows), calibration=calibration, gate=gate)


def test_examples_without_a_prompt_share_none() -> None:
    def supervised(*tokens: int, start: int = 1) -> Dataset:
        labels = [-100] * start + list(tokens[start:])
        return Dataset.from_list([{"input_ids": list(tokens), "labels": labels}])

    tokenizer = make_tokenizer()
    check_disjoint(supervised(2, 11, 12, start=0), supervised(2, 11, 13, start=0), tokenizer)
    assert 2 in tokenizer.all_special_ids
    check_disjoint(supervised(2, 11, 12), supervised(2, 11, 13), tokenizer)
    with pytest.raises(ValueError, match="1 of its 1 examples or their prompts"):
        check_disjoint(supervised(14, 11, 12), supervised(14, 11, 13), tokenizer)
    with pytest.raises(ValueError, match="1 of its 1 examples"):
        check_disjoint(supervised(2, 11, 12, start=0), supervised(2, 11, 12, start=0), tokenizer)


@pytest.mark.parametrize("name", ["train", "calibration"])
def test_cut_answer_is_refused(tmp_path: Path, name: str) -> None:
    long = changed(2, prompt=" ".join(["w1"] * 30) + " ?")
    with pytest.raises(ValueError, match=f"{name} data set, example 2: it has 33 tokens"):
        make_trainer(tmp_path, max_length=20, **{name: long})


def test_what_max_length_cuts_without_harm_is_cut(tmp_path: Path) -> None:
    train = Dataset.from_list(
        [{"input_ids": [11, 6, 1, 12, 13], "labels": [-100, 6, 1, -100, -100]}]
    )
    calibration = Dataset.from_list([{"input_ids": [12, 6, 1], "labels": [-100, 6, 1]}])
    trainer = make_trainer(tmp_path, max_length=3, train=train, calibration=calibration)
    assert trainer.train_dataset[0]["input_ids"] == [11, 6, 1]


@pytest.mark.parametrize("completion", ["", "  ", [{"role": "assistant", "content": ""}]])
def test_empty_completion_is_refused(tmp_path: Path, completion: Any) -> None:
    rows = [{k: row[k] for k in ("prompt", "completion")} for row in make_rows(6)]
    if not isinstance(completion, str):
        rows = [
            {
                "prompt": [{"role": "user", "content": row["prompt"]}],
                "completion": [{"role": "assistant", "content": row["completion"]}],
            }
            for row in rows
        ]
    rows[4]["completion"] = completion
    with pytest.raises(ValueError, match="train data set, example 4: the completion is empty"):
        make_trainer(tmp_path, train=Dataset.from_list(rows), gate="all", calibration=None)


USER = {"role": "user", "content": "w1 ?"}
BOT = {"role": "assistant", "content": "A"}


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ({"prompt": "w1", "completion": " A"}, {"completion": None}, "the completion is None"),
        ({"prompt": "w1", "completion": " A"}, {"prompt": None}, "the prompt is None"),
        ({"prompt": [USER], "completion": [BOT]}, {"prompt": []}, "the prompt holds no message"),
        (
            {"prompt": [USER], "completion": [BOT]},
            {"prompt": [{"role": "user"}]},
            "the prompt has no content in message 0",
        ),
        (
            {"messages": [USER, BOT]},
            {"messages": [USER, {"role": "assistant"}]},
            "the messages has no content in message 1",
        ),
        (
            {"messages": [USER, BOT]},
            {"messages": [USER, {**BOT, "content": " "}, USER, BOT]},
            "the messages is empty in message 1",
        ),
        (
            {"conversations": [{"from": "user", "value": "w1"}, {"from": "gpt", "value": "A"}]},
            {"conversations": [{"from": "user", "value": "w1"}, {"from": "gpt", "value": ""}]},
            "the conversations is empty in message 1",
        ),
        ({"text": "w1 w2"}, {"text": None}, "the text is None"),
    ],
)
@pytest.mark.parametrize("name", ["train", "calibration", "eval"])
def test_missing_text_is_refused(
    tmp_path: Path, name: str, good: dict[str, Any], bad: dict[str, Any], message: str
) -> None:
    flawed = Dataset.from_list([good, {**good, **bad}])
    with pytest.raises(ValueError, match=f"{name} data set, example 1: {message}"):
        check_text(flawed, name, "text")
    check_text(Dataset.from_list([good, good]), name, "text")


def test_missing_text_is_refused_by_the_trainer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="calibration data set, example 3: the prompt is None"):
        make_trainer(tmp_path, calibration=changed(3, prompt=None))


def test_a_turn_that_calls_a_tool_needs_no_content() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "look_up"}]}
    check_text(Dataset.from_list([{"messages": [USER, call]}]), "train", "text")


@pytest.mark.parametrize("gate", ["none", "all"])
def test_tokens_without_a_word_on_what_is_supervised(tmp_path: Path, gate: str) -> None:
    bare = tokenised().remove_columns("labels")
    with pytest.raises(ValueError, match="train data set has 'input_ids' but none of 'labels'"):
        make_trainer(tmp_path, train=bare, gate=gate, calibration=None)
    held_out = {"eval_dataset": bare}
    with pytest.raises(ValueError, match="eval data set has 'input_ids' but none of 'labels'"):
        make_trainer(tmp_path, gate=gate, sft_arguments=held_out)


def test_completion_mask_is_not_overlooked(tmp_path: Path) -> None:
    masked = tokenised(completion_mask=[0, 0, 1, 1]).remove_columns("labels")
    settings: dict[str, Any] = {"train": masked, "gate": "all", "calibration": None}
    with pytest.raises(ValueError, match="'completion_mask', which TRL overlooks"):
        make_trainer(tmp_path, **settings)
    trainer = make_trainer(tmp_path, completion_only_loss=True, **settings)
    assert trainer.train_dataset[0]["labels"] == [-100, -100, 6, 1]


@pytest.mark.parametrize(
    ("stated", "columns", "labels"),
    [
        (None, {}, None),
        (True, {}, [-100, -100, -100, -100, -100, 7, 1]),
        (False, {}, [-100, -100, 6, -100, -100, 7, 1]),
        # Beside their text TRL takes the mask of its own accord.
        (None, {"prompt": "w1", "completion": "A"}, [-100, -100, -100, -100, -100, 7, 1]),
        (None, {"labels": [-100, 12, 6, -100, -100, 7, 1]}, [-100, 12, 6, -100, -100, 7, 1]),
    ],
)
def test_both_masks_are_taken_as_trl_takes_them_or_asked_about(
    tmp_path: Path, stated: bool | None, columns: dict[str, Any], labels: list[int] | None
) -> None:
    masks = {"completion_mask": [0, 0, 0, 0, 0, 1, 1], "assistant_masks": [0, 0, 1, 0, 0, 1, 1]}
    row = {"input_ids": [11, 12, 6, 13, 14, 7, 1], **masks, **columns}
    train = Dataset.from_list([row])
    arguments: dict[str, Any] = {"gate": "all", "calibration": None, "train": train}
    if labels is None:
        with pytest.raises(ValueError, match="'completion_mask', which TRL overlooks"):
            make_trainer(tmp_path, completion_only_loss=stated, **arguments)
        return
    trainer = make_trainer(tmp_path, completion_only_loss=stated, **arguments)
    assert trainer.train_dataset[0]["labels"] == labels
    args = SFTConfig(str(tmp_path), use_cpu=True, bf16=False, completion_only_loss=stated)
    theirs = SFTTrainer(make_model(), args, train_dataset=train, processing_class=make_tokenizer())
    assert theirs.train_dataset[0]["labels"] == labels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([" C", " B C"], "example 3: option ' B C' must be one token"),
        ([" C"], "example 3: needs two or more options"),
        ([" C", " C"], "example 3: needs two or more options"),
        ([" AA", " nonsense"], "example 3: the completion must be one of its options"),
    ],
)
def test_options_that_are_no_single_tokens_in_the_answer_s_place(
    tmp_path: Path, options: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, train=changed(3, options=options))


def test_options_after_an_answer_that_starts_earlier(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="example 5: the completion must be one of its options"):
        make_trainer(tmp_path, train=changed(5, completion=" the answer is A"))


def test_options_beside_tokenised_examples(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'options' goes with text only"):
        make_trainer(tmp_path, train=tokenised(options=[" A", " B"]), gate="all", calibration=None)


def test_gold_token_outside_given_option_ids(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"example 0: .* 6 is none of its option_ids \[7, 8\]"):
        make_trainer(tmp_path, train=tokenised(option_ids=[7, 8]), gate="all", calibration=None)


def test_options_in_one_data_set_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must both have a column 'options'"):
        make_trainer(tmp_path, calibration=make_data(8, seed=1).remove_columns("options"))


def test_nothing_supervised(tmp_path: Path) -> None:
    for labels in ([-100] * 4, [11, -100, -100, -100]):  # the first token is never predicted
        with pytest.raises(ValueError, match="example 0: no token is supervised"):
            make_trainer(tmp_path, train=tokenised(labels=labels), gate="all", calibration=None)


def test_labels_of_another_length(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="4 input_ids but 3 labels"):
        make_trainer(tmp_path, train=tokenised(labels=[-100, 6, 1]), gate="all", calibration=None)


def test_empty_evaluation_sets_are_refused(tmp_path: Path) -> None:
    empty = make_data(8, seed=2).select([])
    for evaluation, name in ((empty, "eval_dataset"), ({"other": empty}, "eval_dataset.'other'.")):
        with pytest.raises(ValueError, match=f"{name} must hold at least one example, got none"):
            make_trainer(tmp_path, sft_arguments={"eval_dataset": evaluation})


class Own(torch.utils.data.Dataset[Any]):
    """A data set of torch."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        return make_rows(4)[index]

    def __len__(self) -> int:
        return 4


STREAM = make_data(8, seed=2).to_iterable_dataset()
UNPREPARED: list[tuple[Any, str]] = [
    (STREAM, "must be a datasets.Dataset, got IterableDataset"),
    ({"one": make_data(8, seed=2), "two": STREAM}, "must be a datasets.Dataset, got Iterable"),
    (IterableDatasetDict(two=STREAM), "must be a datasets.Dataset, got IterableDataset"),
    (make_rows(4), "must be a datasets.Dataset, got list"),
    (Own(), "must be a datasets.Dataset, got Own"),
    (make_data(8).add_column("image", ["x"] * 8), "has images, which are not supported"),
    (make_data(8).with_transform(lambda rows: rows), "has a transform"),
    (make_data(8).rename_column("prompt", "question"), "must have columns 'prompt'"),
]


@pytest.mark.parametrize(("evaluation", "message"), UNPREPARED)
def test_evaluation_sets_that_cannot_be_checked(
    tmp_path: Path, evaluation: Any, message: str
) -> None:
    which = "eval_dataset.'two'. " if isinstance(evaluation, dict) else "eval_dataset "
    with pytest.raises(ValueError, match=which + message):
        make_trainer(tmp_path, sft_arguments={"eval_dataset": evaluation})
    which = "two data set " if isinstance(evaluation, dict) else "eval data set "
    with pytest.raises(ValueError, match=which + message):
        make_trainer(tmp_path).evaluate(evaluation)


def test_several_evaluation_sets(tmp_path: Path) -> None:
    several = DatasetDict(one=make_data(8, seed=2), two=make_data(8, seed=3))
    trainer = make_trainer(tmp_path, sft_arguments={"eval_dataset": several})
    assert {"eval_one_loss", "eval_two_loss"} <= set(trainer.evaluate())


def test_calibration_in_another_format(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'prompt-completion', got 'tokenised'"):
        make_trainer(tmp_path, calibration=tokenised())


@pytest.mark.parametrize("name", ["train", "calibration"])
def test_data_sets_that_cannot_be_checked(tmp_path: Path, name: str) -> None:
    for dataset, message in (
        (make_data(8).to_iterable_dataset(), "must be a datasets.Dataset, got IterableDataset"),
        (DatasetDict(fold=make_data(8)), r"got a DatasetDict of \['fold'\]: give one of them"),
        (make_data(8).select([]), "must hold at least one example"),
        (make_data(8).add_column("image", ["x"] * 8), "images, which are not supported"),
        (make_data(8).rename_column("prompt", "question"), "must have columns 'prompt'"),
        (
            make_data(8).rename_columns({"prompt": "question", "completion": "answer"}),
            "rename them, 'question' to 'prompt' and 'answer' to 'completion'",
        ),
    ):
        with pytest.raises(ValueError, match=f"{name}_dataset .*{message}"):
            make_trainer(tmp_path, **{name: dataset})


def test_style_phase_longer_than_training(tmp_path: Path) -> None:
    message = "style_steps must be less than the {} steps"
    with pytest.raises(ValueError, match=message.format(3)):
        make_trainer(tmp_path, style_steps=3)
    # Counted in epochs, the steps are known no sooner than the batches are.
    trainer = make_trainer(tmp_path, style_steps=4, max_steps=-1, num_train_epochs=1)
    with pytest.raises(ValueError, match=message.format(4)):
        trainer.train()


def test_other_losses_and_prompt_learning(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="compute_loss_func is not supported"):
        make_trainer(tmp_path, sft_arguments={"compute_loss_func": lambda *_, **__: None})
    prompts = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    with pytest.raises(ValueError, match="PromptTuningConfig is not supported"):
        make_trainer(tmp_path, sft_arguments={"peft_config": prompts})


def test_arguments_of_trl_are_not_taken_for_ours(tmp_path: Path) -> None:
    args = SFTConfig(str(tmp_path), use_cpu=True, bf16=False)
    with pytest.raises(TypeError, match="args must be a CogCalibConfig, got SFTConfig"):
        CogCalibTrainer("model", args, make_data(4))  # type: ignore[arg-type]


@pytest.mark.parametrize(("cp", "sp"), [(True, False), (False, True)])
def test_sequences_split_over_processes_are_refused(cp: bool, sp: bool) -> None:
    whole = SimpleNamespace(cp_enabled=False, sp_enabled=False)
    refuse_split_sequences(None)
    refuse_split_sequences(whole)
    with pytest.raises(ValueError, match="context and sequence parallelism are not supported"):
        refuse_split_sequences(SimpleNamespace(cp_enabled=cp, sp_enabled=sp))


def test_devices_that_share_a_batch_are_refused() -> None:
    refuse_shared_batches(tp_size=1, n_gpu=0)
    refuse_shared_batches(tp_size=1, n_gpu=1)
    with pytest.raises(ValueError, match="tensor parallelism over 2 ranks"):
        refuse_shared_batches(tp_size=2, n_gpu=1)
    with pytest.raises(ValueError, match=r"nn\.DataParallel on 2 GPUs .*accelerate launch"):
        refuse_shared_batches(tp_size=1, n_gpu=2)


def test_processes_that_would_each_train_by_themselves_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse_processes_apart(1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    refuse_processes_apart(2)
    with pytest.raises(ValueError, match=r"2 processes were launched .* use_cpu=True"):
        refuse_processes_apart(1)


def test_offloading_without_an_accelerator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"activation_offloading=True needs an accelerator"):
        make_trainer(tmp_path, activation_offloading=True)


def test_4bit_weights_that_an_evaluation_repacks_are_refused(tmp_path: Path) -> None:
    model = make_model()
    model.model.layers[1].mlp.support_avx512bf16_for_cpu = True
    with pytest.raises(ValueError, match=r"4-bit weights of bitsandbytes are not supported on"):
        make_trainer(tmp_path, model=model)
