"""The share of known examples in the first and last gated epoch, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_resume import StopAt
from tiny_run import make_model, make_trainer

from cogcalib.knowledge.ledger import read_ledger
from cogcalib.training.state import KnownShare

SETTINGS: dict[str, Any] = {"max_steps": 14, "style_steps": 2, "threshold_every": 3}
"""Three and a half epochs of 32 examples in batches of 8."""


def shares(folder: Path, steps: range) -> float:
    rows = [row for row in read_ledger(folder).to_pylist() if row["step"] in steps]
    assert len(rows) == 32
    return float(np.mean([row["nll"] <= row["threshold"] for row in rows]))


def test_the_last_row_of_the_log_has_both(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, **SETTINGS)
    trainer.train()
    last = trainer.state.log_history[-1]
    assert "train_runtime" in last
    assert last["known_first_epoch"] == pytest.approx(shares(tmp_path, range(2, 6)))
    assert last["known_last_epoch"] == pytest.approx(shares(tmp_path, range(10, 14)))


def test_shorter_than_an_epoch_both_are_all_of_it(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, **{**SETTINGS, "max_steps": 4})
    trainer.train()
    known = trainer.knowledge.known_share
    assert known.first == known.last
    assert known.first[1] == 16


def test_a_resumed_run_counts_on(tmp_path: Path) -> None:
    for output, stop, resume in (("whole", 0, False), ("parts", 5, False), ("parts", 0, True)):
        trainer = make_trainer(
            tmp_path / output,
            model=make_model(),
            save_strategy="steps",
            save_steps=1,
            sft_arguments={"callbacks": [StopAt(stop)] if stop else []},
            **SETTINGS,
        )
        trainer.train(resume_from_checkpoint=resume or None)
        if output == "whole":
            whole = trainer.knowledge.known_share
    assert trainer.knowledge.known_share == whole


@pytest.mark.parametrize("gate", ["none", "all"])
def test_without_a_threshold_there_is_none(tmp_path: Path, gate: str) -> None:
    trainer = make_trainer(tmp_path, gate=gate, calibration=None)
    trainer.train()
    assert not any(name.startswith("known_") for name in trainer.state.log_history[-1])


@pytest.mark.parametrize(
    ("cut", "said"),
    [
        (1e9, "] 100.0% of the training examples count as known in"),
        (-1.0, "] 0.0% of the"),
        (None, ""),
    ],
)
def test_a_gate_that_does_not_choose_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, cut: float | None, said: str
) -> None:
    trainer = make_trainer(tmp_path, cut=cut, learning_rate=1e-4)
    with caplog.at_level("WARNING", logger="cogcalib"):
        trainer.train()
    warned = [line for line in caplog.messages if "of the training examples" in line]
    assert [said in line for line in warned] == ([True] if said else [])


def test_the_warning_names_the_likely_reason() -> None:
    saturated = KnownShare([3.0, 10.0], [97.0, 100.0])
    assert "memorised" in saturated.warning("nll")
    assert "gate='all'" in saturated.warning("prior")
    assert saturated.warning("oracle") == ""
    assert KnownShare([3.0, 10.0], [95.0, 100.0]).warning("nll") == ""
    assert "knows little" in KnownShare([3.0, 10.0], [4.0, 100.0]).warning("nll")
    assert KnownShare().warning("nll") == ""
    assert KnownShare().as_logged() == {}
