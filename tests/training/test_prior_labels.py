"""``gate="prior"``: labels given when an example is first met, and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from datasets import IterableDataset
from test_resume import StopAt
from tiny_run import (
    assert_same_ledgers,
    assert_same_weights,
    make_args,
    make_data,
    make_model,
    make_rows,
    make_trainer,
)

from cogcalib.knowledge.ledger import read_ledger
from cogcalib.training.prior_labels import PriorLabels
from cogcalib.training.state import KnowledgeState

CPU = torch.device("cpu")
FOUR_EPOCHS: dict[str, Any] = {
    "gate": "prior",
    "max_steps": 16,
    "threshold_every": 2,
    "learning_rate": 3e-3,
}
"""Of 32 examples in batches of 8."""


def test_the_first_label_stands() -> None:
    labels = PriorLabels(5, CPU)
    numbers = torch.tensor([4, 1])
    assert labels.of(numbers).tolist() == [-1, -1]
    labels.note(numbers, torch.tensor([True, False]), 3)
    labels.note(torch.tensor([1, 4, 0]), torch.tensor([True, False, True]), 4)
    assert labels.of(torch.arange(5)).tolist() == [1, 0, -1, -1, 1]


def test_they_are_written_and_brought_back() -> None:
    labels = PriorLabels(4, CPU)
    labels.note(torch.tensor([0, 2]), torch.tensor([True, False]), 0)
    text = labels.gather(Accelerator(cpu=True))
    assert text == "1.0."
    again = PriorLabels(4, CPU)
    again.restore(text)
    again.note(torch.arange(4), torch.tensor([False, True, True, True]), 9)
    assert again.of(torch.arange(4)).tolist() == [1, 1, 0, 1]
    again.restore("")
    assert again.of(torch.arange(4)).tolist() == [-1] * 4


def weights_by_epoch(folder: Path) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    for row in read_ledger(folder).to_pylist():
        found.setdefault(row["epoch"], {})[row["example"]] = row["weight"]
    return found


def test_as_nll_in_the_first_epoch_and_constant_from_then_on(tmp_path: Path) -> None:
    for gate in ("prior", "nll"):
        trainer = make_trainer(tmp_path / gate, **{**FOUR_EPOCHS, "gate": gate})
        trainer.train()
    prior, nll = (weights_by_epoch(tmp_path / gate) for gate in ("prior", "nll"))
    assert prior[0] == nll[0]
    assert 0 < sum(prior[0].values()) < 32
    for epoch in (1, 2, 3):
        assert prior[epoch] == prior[0]
    assert nll[3] != nll[0]


def test_the_log_says_what_it_takes_for_known(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, **FOUR_EPOCHS)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "share_known" in row]
    ledger = read_ledger(tmp_path).to_pylist()
    for row in rows:
        step = [each["weight"] for each in ledger if each["step"] == row["step"] - 1]
        assert row["share_known"] == row["gate_rate"] == pytest.approx(np.mean(step))


def test_examples_of_the_style_phase_are_labelled_when_they_come_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make_trainer(tmp_path, **{**FOUR_EPOCHS, "style_steps": 2})
    trainer.train()
    by_epoch = weights_by_epoch(tmp_path)
    gated = {row["example"] for row in read_ledger(tmp_path).to_pylist() if row["step"] in (2, 3)}
    assert len(gated) == 16
    for example in by_epoch[0]:
        if example in gated:
            assert by_epoch[1][example] == by_epoch[0][example]
        assert by_epoch[1][example] == by_epoch[2][example] == by_epoch[3][example]
    assert "gate='prior' labels" not in caplog.text


def test_a_style_phase_of_an_epoch_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make_trainer(tmp_path, **{**FOUR_EPOCHS, "style_steps": 4, "max_steps": 5})
    with caplog.at_level("WARNING", logger="cogcalib"):
        trainer.train()
    assert "Set style_steps to less than an epoch" in caplog.text


@pytest.mark.parametrize("stop", [3, 4, 6])
def test_resumed_run_equals_the_uninterrupted_one(tmp_path: Path, stop: int) -> None:
    def train(output: str, stop: int | None = None, *, resume: bool = False) -> Any:
        trainer = make_trainer(
            tmp_path / output,
            model=make_model(attention_dropout=0.2),
            **{**FOUR_EPOCHS, "style_steps": 1, "max_steps": 9},
            save_strategy="steps",
            save_steps=1,
            sft_arguments={"callbacks": [StopAt(stop)] if stop else []},
        )
        trainer.train(resume_from_checkpoint=resume or None)
        return trainer

    whole = train("whole")
    train("parts", stop)
    assert "." in KnowledgeState.load(tmp_path / "parts" / f"checkpoint-{stop}").prior
    resumed = train("parts", resume=True)
    assert resumed.knowledge == whole.knowledge
    assert set(resumed.knowledge.prior) == {"0", "1"}
    assert_same_weights(resumed, whole)
    assert_same_ledgers(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.parametrize(
    "layout",
    [{"ledger": False}, {"packing": True, "max_length": 24, "per_device_train_batch_size": 3}],
)
def test_without_a_ledger_and_packed(tmp_path: Path, layout: dict[str, Any]) -> None:
    trainer = make_trainer(tmp_path, **{**FOUR_EPOCHS, **layout})
    trainer.train()
    trainer.gather_knowledge()
    assert set(trainer.knowledge.prior) == {"0", "1"}
    assert len(trainer.knowledge.prior) == 32


def test_it_labels_examples_and_needs_them_at_hand(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gate='prior' needs unit='example', got"):
        make_args(tmp_path, gate="prior", unit="token")
    stream = IterableDataset.from_generator(lambda: iter(make_rows(8)))
    with pytest.raises(ValueError, match=r"train_dataset must be a datasets\.Dataset, got Iter"):
        make_trainer(tmp_path, train=stream, gate="prior")
    numbered = make_data(8).add_column("example_number", list(range(8)))
    with pytest.raises(ValueError, match="the ledger and gate='prior' make their own"):
        make_trainer(tmp_path, train=numbered, gate="prior", ledger=False)
