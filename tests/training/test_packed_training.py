"""One gradient, however the examples are put into batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tiny_run import (
    assert_same_weights,
    make_args,
    make_data,
    make_model,
    make_rows,
    make_tokenizer,
    make_trainer,
    weights,
)
from trl import SFTConfig, SFTTrainer

N = 32
PADDED: dict[str, Any] = {"per_device_train_batch_size": N}
PADDING_FREE: dict[str, Any] = {**PADDED, "padding_free": True, "max_length": None}
LAYOUTS: dict[str, dict[str, Any]] = {
    "padding-free": PADDING_FREE,
    "padding-free, filled up": {**PADDING_FREE, "pad_to_multiple_of": 64},
    "padding-free, accumulated": {
        **PADDING_FREE,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 8,
    },
    "packed": {**PADDED, "packing": True, "max_length": 32},
    "packed, accumulated": {
        "packing": True,
        "max_length": 32,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": N,  # a partial step: there are fewer rows
    },
    "packed, bfd_split": {
        **PADDED,
        "packing": True,
        "packing_strategy": "bfd_split",
        "max_length": 40,
        "shuffle_dataset": True,
    },
}
BASIC = ("padding-free", "packed")
LOGGED = ("loss", "ce", "penalty", "gate_rate", "entropy", "mean_token_accuracy", "grad_norm")
CUT = 4.0
"""Between the NLLs of the untrained model, so that the gate opens for some."""

METHODS: dict[str, dict[str, Any]] = {
    "smoothing": {"gate": "nll"},
    "margin-options": {"gate": "nll", "penalty": "margin", "support": "options", "margin": 0.5},
    "entropy-sum": {"gate": "inverted", "penalty": "entropy", "nll_reduction": "sum", "cut": 8.0},
    "soft-options": {"gate": "soft", "support": "options"},
    "oracle": {"gate": "oracle"},
    "all": {"gate": "all", "penalty": "entropy", "entropy_floor": 2.0},
}


def mixed_data() -> Dataset:
    """Four options, two, or none; known or not."""
    rows = make_rows(N)
    for index, row in enumerate(rows):
        row["known"] = index % 3 == 0
        if row["completion"] in (" A", " B") and index % 2:
            row["options"] = [" A", " B"]
    return Dataset.from_list(rows)


def one_step(output: Path, *, model: Any = None, **settings: Any) -> Any:
    trainer = make_trainer(
        output,
        model=make_model().double() if model is None else model,
        train=mixed_data(),
        **{
            "cut": CUT,
            "max_steps": 1,
            "optim": "sgd",
            "learning_rate": 1.0,
            "max_grad_norm": 0.0,
            **settings,
        },
    )
    trainer.train()
    return trainer


def assert_same_step(first: Any, second: Any) -> None:
    before = dict(make_model().double().named_parameters())
    ours, theirs = weights(first), weights(second)
    for name, value in ours.items():
        torch.testing.assert_close(
            value - before[name].detach(),
            theirs[name] - before[name].detach(),
            rtol=1e-5,
            atol=1e-7,
        )


@pytest.fixture(scope="module")
def padded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {
        name: one_step(tmp_path_factory.mktemp("padded"), **PADDED, **method)
        for name, method in METHODS.items()
    }


EVERY_LAYOUT = [(layout, "soft-options") for layout in LAYOUTS]
EVERY_METHOD = [(layout, m) for m in METHODS if m != "soft-options" for layout in BASIC]


@pytest.mark.parametrize(("layout", "method"), EVERY_LAYOUT + EVERY_METHOD)
def test_gradient_is_that_of_the_padded_batch(
    tmp_path: Path, padded: dict[str, Any], layout: str, method: str
) -> None:
    reference = padded[method]
    trainer = one_step(tmp_path, **{**LAYOUTS[layout], **METHODS[method]})
    assert_same_step(trainer, reference)
    if "accumulated" in layout:  # their log holds means over micro-batches
        return
    row, expected = trainer.state.log_history[0], reference.state.log_history[0]
    for name in LOGGED:
        assert row[name] == pytest.approx(expected[name], rel=1e-5), name
    if method != "all":
        assert 0 < row["gate_rate"] < 1


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_gradient_in_float32_with_either_attention(tmp_path: Path, attention: str) -> None:
    steps = [
        one_step(tmp_path, model=make_model(attn_implementation=attention), **layout)
        for layout in (PADDED, LAYOUTS["packed"])
    ]
    assert {step.model.config._attn_implementation for step in steps} == {attention}
    assert_same_weights(*steps, tolerance=2e-6)
    start = dict(make_model().named_parameters())
    assert all((value - start[n]).abs().max() > 1e-3 for n, value in weights(steps[0]).items())


@pytest.mark.parametrize("layout", BASIC)
def test_thresholds_are_those_of_padded_training_to_the_bit(tmp_path: Path, layout: str) -> None:
    trainers = [make_trainer(tmp_path, **settings) for settings in (PADDED, LAYOUTS[layout])]
    first, second = (trainer.estimate_threshold() for trainer in trainers)
    assert first == second
    assert 0 < first.n_known < 24


def test_rates_count_examples_not_rows(tmp_path: Path) -> None:
    settings = {"gate": "random", "per_device_train_batch_size": 1, "max_steps": 1}
    trainer = make_trainer(tmp_path, packing=True, max_length=400, cut=CUT, **settings)
    assert [len(lengths) for lengths in trainer.train_dataset["seq_lengths"]] == [N]
    trainer.train()
    row = trainer.state.log_history[0]
    for name in ("share_known", "gate_rate"):
        assert 0 < row[name] < 1
        assert row[name] * N == pytest.approx(round(row[name] * N))


@pytest.mark.parametrize("layout", BASIC)
def test_without_a_gate_it_is_trl(tmp_path: Path, layout: str) -> None:
    settings = {"gate": "none", "max_steps": 2, "shuffle_dataset": True, **LAYOUTS[layout]}
    settings |= {"optim": "sgd", "learning_rate": 0.1}
    held_out = {"sft_arguments": {"eval_dataset": make_data(12, seed=5)}}
    ours = make_trainer(tmp_path, train=mixed_data(), **held_out, **settings)
    arguments = vars(make_args(tmp_path, **settings))
    names = [name for name, field in SFTConfig.__dataclass_fields__.items() if field.init]
    theirs = SFTTrainer(
        make_model(),
        SFTConfig(**{name: arguments[name] for name in names}),
        train_dataset=make_data(N).remove_columns("options"),
        eval_dataset=make_data(12, seed=5).remove_columns("options"),
        processing_class=make_tokenizer(),
    )
    ours.train()
    theirs.train()
    assert_same_weights(ours, theirs, tolerance=1e-6)
    for row, other in zip(ours.state.log_history[:-1], theirs.state.log_history[:-1], strict=True):
        for name in ("loss", "grad_norm", "entropy", "mean_token_accuracy", "num_tokens"):
            assert row[name] == pytest.approx(other[name], rel=1e-5), name
    expected = theirs.evaluate()["eval_loss"]
    assert ours.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("eval_packing", [None, False])
def test_evaluation_is_plain_cross_entropy_and_takes_other_data(
    tmp_path: Path, eval_packing: bool | None
) -> None:
    held_out = make_data(12, seed=5)
    trainer = make_trainer(
        tmp_path,
        gate="all",
        packing=True,
        max_length=256,
        eval_packing=eval_packing,
        per_device_eval_batch_size=12,
        sft_arguments={"eval_dataset": held_out},
    )
    plain = make_trainer(tmp_path, per_device_eval_batch_size=12)
    loss = trainer.evaluate()["eval_loss"]
    assert loss == pytest.approx(plain.evaluate(held_out)["eval_loss"], rel=1e-5)
    found = trainer.evaluate({"one": held_out, "two": held_out.select(range(6))})
    assert found["eval_one_loss"] == pytest.approx(loss, rel=1e-6)
    assert ("seq_lengths" in trainer.eval_dataset.column_names) == (eval_packing is None)


def test_number_of_tokens_is_that_of_trl(tmp_path: Path) -> None:
    logs = []
    for gate in ("nll", "none"):
        trainer = make_trainer(tmp_path, gate=gate, **LAYOUTS["padding-free, filled up"])
        trainer.train()
        logs.append([row["num_tokens"] for row in trainer.state.log_history[:-1]])
    assert logs[0] == logs[1]
    assert logs[0][0] % 64 == 0


def test_leak_of_calibration_into_packed_rows_is_refused(tmp_path: Path) -> None:
    rows = make_rows(12)
    calibration = Dataset.from_list(make_rows(5, seed=1) + rows[4:7])
    with pytest.raises(ValueError, match=r"3 of its 8 examples .* first is example 5"):
        make_trainer(tmp_path, train=Dataset.from_list(rows), calibration=calibration, packing=True)


def test_answer_that_packing_would_cut_is_refused(tmp_path: Path) -> None:
    for strategy in ("bfd", "bfd_split"):
        with pytest.raises(ValueError, match=r"max_length=5 would cut its answer"):
            make_trainer(tmp_path, packing=True, packing_strategy=strategy, max_length=5)


def test_rows_packed_beforehand_are_refused(tmp_path: Path) -> None:
    packed = make_trainer(tmp_path, packing=True, max_length=64).train_dataset
    with pytest.raises(ValueError, match="train data set is packed already"):
        make_trainer(tmp_path, train=packed, gate="all", calibration=None, packing=True)
    with pytest.raises(ValueError, match="eval data set is packed already"):
        make_trainer(tmp_path).evaluate(packed)
