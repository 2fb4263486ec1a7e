"""A gate that opens with no weight behind it: said at the end, with the likely reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_run import make_data, make_reading, make_trainer

from cogcalib.losses import GapCurve
from cogcalib.records import Threshold
from cogcalib.training.no_effect import NOTHING, warning_of_no_effect
from cogcalib.training.state import KnowledgeState, KnownShare

SAID = "this was plain fine-tuning"
WAITING = GapCurve((0.0,), (1.0,), (1.0,), gated=True)
FITTED = GapCurve((0.1, 2.3), (0.9, 0.2), (0.9, 0.2), gated=True)


def gap_training(output: Path, caplog: pytest.LogCaptureFixture, **settings: Any) -> list[str]:
    """Of 32 answers an epoch, a quarter at each step; 120 calibration questions."""
    trainer = make_trainer(
        output,
        alpha="gap",
        cut=settings.pop("cut", None),
        calibration=make_data(120, seed=1),
        **settings,
    )
    caplog.clear()
    trainer.train()
    share = trainer.knowledge.known_share
    held = KnowledgeState(known_share=share)
    held.save(output)
    assert KnowledgeState.load(output).known_share.weight == share.weight
    logged = [row["gate_rate"] * 8 for row in trainer.state.log_history if "share_known" in row]
    assert share.weight == pytest.approx(sum(logged), rel=1e-3)
    return [line for line in caplog.messages if SAID in line]


def test_gap_that_ends_before_it_begins_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (said,) = gap_training(tmp_path / "short", caplog, max_steps=12, style_steps=4)
    assert said.startswith("alpha='gap' gave the penalty a mean weight of 0 in the gated training")
    assert (
        "of the training examples counted as known: this was plain fine-tuning. It begins" in said
    )
    assert "first threshold after 100 answers seen in training, and none came so late" in said
    assert gap_training(tmp_path / "long", caplog, max_steps=20, style_steps=4) == []


def test_a_gate_that_never_opened_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make_trainer(tmp_path, alpha="gap", cut=-1.0, max_steps=2)
    trainer.train()
    assert "the gate never chose" in caplog.text
    assert SAID not in caplog.text


def test_an_alpha_of_zero_is_the_users_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make_trainer(tmp_path, alpha=0.0, max_steps=2)
    reading = make_reading(Threshold(3.0, 0.5, 0.8, 1, 1), 0.5, 0.5)
    trainer.run_calibration_pass = lambda: reading
    trainer.train()
    assert SAID not in caplog.text


def said_of(weight: float, alpha: Any, gate: str = "nll", curve: Any = None) -> str:
    """Of a thousand units, a third of them known."""
    share = KnownShare(seen=[340.0, 1000.0], weight=weight)
    return warning_of_no_effect(KnowledgeState(known_share=share, curve=curve), gate, alpha, 60)


@pytest.mark.parametrize(
    ("alpha", "curve", "reason"),
    [
        ("gap", WAITING, "after 60 answers seen in training"),
        ("gap", FITTED, "no more often than calibration examples of the same confidence"),
        ("auto", None, "confidence was no higher than accuracy"),
    ],
)
def test_the_reason_is_that_of_the_alpha(alpha: str, curve: Any, reason: str) -> None:
    said = said_of(0.5, alpha, curve=curve)
    assert f"alpha={alpha!r} gave the penalty a mean weight of 0.0005 in the gated" in said
    assert "although 34.0% of the training examples counted as known" in said
    assert reason in said


@pytest.mark.parametrize("alpha", ["gap", "auto"])
def test_some_weight_is_some_effect(alpha: str) -> None:
    assert said_of(1000 * NOTHING, alpha) == ""
    assert said_of(float("nan"), alpha) == ""
    assert said_of(0.0, alpha) != ""


def test_numbers_are_left_alone_and_controls_named() -> None:
    assert said_of(0.0, 0.2) == said_of(0.0, None) == ""
    assert "although gate='all' was open" in said_of(0.0, "gap", "all", FITTED)
    assert warning_of_no_effect(KnowledgeState(), "nll", "gap", 60) == ""
