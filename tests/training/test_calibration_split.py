"""A calibration split that nobody gave is split off the training set, by content."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any

import pytest
from accelerate import PartialState
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from tiny_run import assert_same_weights, make_args, make_rows, make_trainer

from cogcalib.deployment.calibration_file import read_calibration
from cogcalib.deployment.seen_questions import question_hashes, read_seen
from cogcalib.modeling import load_model
from cogcalib.training import CogCalibConfig, CogCalibTrainer
from cogcalib.training.calibration_split import split_calibration

ROWS = list({row["prompt"]: row for row in make_rows(600)}.values())[:400]


@pytest.fixture(autouse=True, scope="module")
def state() -> None:
    """What accelerate's logger asks for; a trainer's arguments make it."""
    PartialState(cpu=True)


def split(rows: list[dict[str, Any]], share: float = 0.25, field: str | None = "text") -> Any:
    dataset = Dataset.from_list(rows)
    train, calibration, kept = split_calibration(dataset, share, field, "the gate needs one")
    for name, side in {"train": train, "calibration": calibration}.items():
        assert list(side) == [dataset[row] for row in kept[name]]
    return train, calibration


def prompts(dataset: Any) -> list[str]:
    return list(dataset["prompt"])


@given(st.integers(0, 1000), st.floats(0.05, 0.5))
@settings(max_examples=30)
def test_neither_order_nor_seed_matters(seed: int, share: float) -> None:
    train, calibration = split(ROWS, share)
    shuffled = random.Random(seed).sample(ROWS, len(ROWS))
    again = split(shuffled, share)
    assert set(prompts(again[0])) == set(prompts(train))
    assert set(prompts(again[1])) == set(prompts(calibration))
    assert len(train) + len(calibration) == len(ROWS)
    assert not set(prompts(train)) & set(prompts(calibration))


@pytest.mark.parametrize(
    ("questions", "share", "expected"),
    [(200, 0.1, 100), (400, 0.1, 100), (2000, 0.1, 200), (4000, 0.9 / 2, 1800), (6000, 0.5, 2000)],
)
def test_a_share_within_limits(questions: int, share: float, expected: int) -> None:
    rows = [{"prompt": f"w{n}", "completion": " A"} for n in range(questions)]
    train, calibration = split(rows, share)
    assert (len(train), len(calibration)) == (questions - expected, expected)


def chat(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def tokens(number: int, answer: int) -> dict[str, Any]:
    ids = [1, 2, 3 + number, answer]
    return {"input_ids": ids, "labels": [-100, -100, -100, answer]}


FORMATS: dict[str, Any] = {
    "prompt": lambda n, a: {"prompt": f"w{n} ?", "completion": f" {a}"},
    "spaces": lambda n, a: {"prompt": f"w{n}{' ' * (1 + a)}?", "completion": " A"},
    "chat prompt": lambda n, a: {
        "prompt": chat(f"w{n}", "")[:1],
        "completion": chat("", f"{a}")[1:],
    },
    "messages": lambda n, a: {"messages": chat(f"w{n}", f"{a}")},
    "labels": tokens,
    "mask": lambda n, a: {"input_ids": [3 + n, a, 1], "completion_mask": [0, 1, 1]},
}


@pytest.mark.parametrize("name", FORMATS)
def test_examples_of_one_question_stay_on_one_side(name: str) -> None:
    rows = [FORMATS[name](n, a) for n in range(250) for a in (1, 2)]
    train, calibration = split([{**row, "n": k // 2} for k, row in enumerate(rows)], 0.5)
    assert (len(train), len(calibration)) == (250, 250)
    assert not set(train["n"]) & set(calibration["n"])


def test_text_is_its_own_question() -> None:
    rows = [{"text": f"w{n // 2}"} for n in range(500)]
    for field in ("text", None):  # None: a formatting function reads the whole row
        train, calibration = split(rows, 0.5, field)
        assert (len(train), len(calibration)) == (250, 250)
        assert not set(train["text"]) & set(calibration["text"])


def test_repeats_do_not_count(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"it has 199 different questions, 200 are needed"):
        split([{"prompt": f"w{n % 199}", "completion": " A"} for n in range(900)])


@pytest.mark.parametrize("settings", [{}, {"gate": "all", "style_steps": "auto"}])
def test_it_is_trained_and_measured_on_and_said(
    tmp_path: Path, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    def train() -> Any:
        trainer = make_trainer(
            tmp_path, train=Dataset.from_list(ROWS), calibration=None, **settings
        )
        trainer.train()
        return trainer

    with caplog.at_level(logging.WARNING, logger="cogcalib"):
        trainer = train()
    assert "100 of the 400 examples of train_dataset are split off" in caplog.text
    assert len(trainer.train_dataset) == 300
    assert len(trainer.calibration_dataset) == 100
    assert_same_weights(trainer, train())
    trainer.save_model()
    found = read_calibration(tmp_path)
    assert found.trained_on["split_off"] == found.metrics[0].n == 100
    seen = read_seen(tmp_path)
    assert len(seen) == found.trained_on["n"] == 300
    prompts = [row["input_ids"][:-2] for row in trainer.calibration_dataset]
    assert seen.isdisjoint(question_hashes(prompts, trainer.processing_class))


@pytest.mark.slow
def test_a_resumed_run_has_the_same(tmp_path: Path) -> None:
    def begin(steps: int) -> Any:
        data = {"train": Dataset.from_list(ROWS), "calibration": None}
        saving = {"save_strategy": "steps", "save_steps": 2, "lr_scheduler_type": "constant"}
        return make_trainer(tmp_path, max_steps=steps, **data, **saving)

    begin(2).train()
    resumed = begin(4)
    resumed.train(resume_from_checkpoint=True)
    whole = make_trainer(
        tmp_path / "whole",
        train=Dataset.from_list(ROWS),
        calibration=None,
        max_steps=4,
        lr_scheduler_type="constant",
    )
    whole.train()
    assert_same_weights(resumed, whole)


def test_nothing_is_split_off_where_nothing_needs_it(tmp_path: Path) -> None:
    for gate in ("none", "all"):
        trainer = make_trainer(tmp_path, train=Dataset.from_list(ROWS), calibration=None, gate=gate)
        assert len(trainer.train_dataset) == 400
        assert trainer.calibration_dataset is None


@pytest.mark.parametrize("share", [0, -0.1, 0.51, 1])
def test_share_out_of_range_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(ValueError, match=r"calibration_share must be in \(0, 0.5\]"):
        make_args(tmp_path, calibration_share=share)


def test_two_names_changed_in_a_script_of_trl_are_enough(tmp_path: Path) -> None:
    model, tokenizer = load_model("atlas", device="cpu")
    rows = [
        {"prompt": f"Question: In which country is {row['prompt'][:-2]}?\nAnswer:", **answer}
        for row in ROWS
        for answer in [{"completion": row["completion"]}]
    ]
    trainer = CogCalibTrainer(
        model=model,
        args=CogCalibConfig(
            str(tmp_path), use_cpu=True, bf16=False, max_steps=1, report_to="none", max_length=256
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=2),
    )
    trainer.train()
    trainer.save_model()
    assert read_calibration(tmp_path).model.name == "atlas"
