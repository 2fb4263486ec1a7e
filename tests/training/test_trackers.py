"""What the log says reaches a tracker through `report_to`: TensorBoard's files are read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_run import make_data, make_trainer

CURVES = ("threshold", "separation", "share_known", "gate_rate", "alpha", "calibration_gap")
CURVES += ("ce", "penalty", "loss", "entropy", "mean_token_accuracy", "num_tokens")
STYLE, STEPS = 2, 6


def curves(folder: Path) -> dict[str, dict[int, float]]:
    """Tag -> step -> value, of the TensorBoard files somewhere below `folder`."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = folder.glob("**/events.out.tfevents.*")
    read = EventAccumulator(str(events))
    read.Reload()
    return {
        tag: {event.step: event.value for event in read.Scalars(tag)}
        for tag in read.Tags()["scalars"]
    }


def logged(trainer: Any, name: str) -> dict[int, float]:
    history = trainer.state.log_history
    return {row["step"]: row[name] for row in history if name in row}


@pytest.mark.parametrize("alpha", ["auto", 0.3])
def test_tensorboard_draws_the_curves_of_the_log(tmp_path: Path, alpha: float | str) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard (pip install tensorboard)")
    trainer = make_trainer(
        tmp_path,
        report_to="tensorboard",
        alpha=alpha,
        max_steps=STEPS,
        style_steps=STYLE,
        sft_arguments={"eval_dataset": make_data(8, seed=2)},
        eval_strategy="steps",
        eval_steps=3,
    )
    trainer.train()
    drawn = curves(tmp_path)
    tuned = {"alpha", "calibration_gap"}
    for name in CURVES:
        if name in tuned and alpha != "auto":
            assert f"train/{name}" not in drawn
            continue
        expected = logged(trainer, name)
        assert drawn[f"train/{name}"] == pytest.approx(expected, rel=1e-6)
        first = STYLE + 1 if name in {*tuned, *CURVES[:3]} else 1  # none while the gate is shut
        assert sorted(expected) == list(range(first, STEPS + 1))
    assert drawn["eval/loss"] == pytest.approx(logged(trainer, "eval_loss"), rel=1e-6)
    thresholds = {t.step + 1: t.value for t in trainer.threshold_history}
    assert drawn["train/threshold"] == pytest.approx(thresholds, rel=1e-6)


def test_an_infinite_threshold_leaves_a_gap(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard (pip install tensorboard)")
    make_trainer(tmp_path, report_to="tensorboard", cut=float("inf")).train()
    drawn = curves(tmp_path)
    assert "train/threshold" not in drawn
    assert sorted(drawn["train/calibration_known"]) == [1, 2, 3]
