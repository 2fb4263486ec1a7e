"""The share of known examples in the first and last gated epoch, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_resume import StopAt
from tiny_run import make_model, make_reading, make_trainer

from cogcalib.knowledge.ledger import read_ledger
from cogcalib.records import Threshold
from cogcalib.training.calibration_pass import CalibrationPass
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
    ("cuts", "said"),
    [
        ([1e9], "100.0% of the training examples counted as known in all of the gated training"),
        ([-1.0], "0.0% of the training examples counted as known in all of the gated training"),
        ([-1.0, 1e9], "100.0% of the training examples count as known in the last epoch"),
        ([1e9, -1.0], "0.0% of the training examples count as known in the last epoch"),
        ([], ""),
    ],
)
def test_a_gate_that_does_not_choose_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, cuts: list[float], said: str
) -> None:
    # One cut for each epoch of four steps; without any, the one that is measured.
    epochs = max(1, len(cuts))
    trainer = make_trainer(tmp_path, learning_rate=1e-4, max_steps=4 * epochs)

    def reading() -> CalibrationPass:
        cut = cuts[trainer.state.global_step // 4]
        return make_reading(Threshold(cut, 0.5, 0.8, 1, 1), 0.5, 0.5)

    if cuts:
        trainer.run_calibration_pass = reading
    with caplog.at_level("WARNING", logger="cogcalib"):
        trainer.train()
    warned = [line for line in caplog.messages if "of the training examples" in line]
    assert [line.startswith(said) for line in warned] == ([True] if said else [])


def known_share(first: float, last: float) -> KnownShare:
    """Of two epochs of a thousand units, and a hundred between them that are as the last."""
    share = KnownShare()
    share.add(1000 * first, 1000, in_first=True, in_last=False)
    share.add(100 * last, 100, in_first=False, in_last=False)
    share.add(1000 * last, 1000, in_first=False, in_last=True)
    return share


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        (0.3, 0.97, "Most likely they have been memorised"),
        (0.3, 0.95, ""),
        (0.3, 0.05, ""),
        (0.3, 0.04, "the last epoch: hardly any is penalised"),
        (0.995, 0.995, "the gate never chose. Either the model knew nearly all"),
        (0.97, 0.97, "Most likely they have been memorised"),
        (0.005, 0.005, "the gate never chose. Either the model knows little"),
        (0.04, 0.04, "the last epoch: hardly any is penalised"),
    ],
)
def test_the_warning_names_the_likely_reason(first: float, last: float, said: str) -> None:
    share = known_share(first, last)
    assert (said in share.warning("nll")) if said else (share.warning("nll") == "")
    assert share.warning("all") == share.warning("none") == ""
    labels = "The column of labels says so"
    assert (labels in share.warning("oracle")) == ("never chose" in said)


def test_the_warning_of_all_does_not_wait_for_an_extreme_end() -> None:
    share = KnownShare([0.0, 1000.0], [60.0, 1000.0], [60.0, 10000.0])
    assert "0.6% of the training examples counted as known in all" in share.warning("nll")


def test_labels_from_the_first_meeting_are_not_said_to_be_memorised() -> None:
    said = known_share(0.3, 0.97).warning("prior")
    assert "gate='all'" in said
    assert "memorised" not in said


def test_without_units_nothing_is_said() -> None:
    assert KnownShare().warning("nll") == ""
    assert KnownShare().as_logged() == {}
