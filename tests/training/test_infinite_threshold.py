"""A calibration split known as a whole, or not at all: said aloud, and trained as it must be."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tiny_run import (
    LETTERS,
    assert_same_weights,
    largest_difference,
    make_reading,
    make_rows,
    make_trainer,
)

from cogcalib.records import Threshold

STYLE_STEPS = 6  # enough to learn that an answer ends after its letter
SETTINGS: dict[str, Any] = {
    "style_steps": STYLE_STEPS,
    "max_steps": STYLE_STEPS + 3,
    "threshold_every": 100,  # measured once, when the style phase ends
    "lr_scheduler_type": "constant",  # so that the style phase alone is the beginning of the run
}
INFINITE = [
    (True, math.inf, "the model knows every calibration example"),
    (False, -math.inf, "the model knows no calibration example"),
]


def trained(output: Path, **settings: Any) -> Any:
    trainer = make_trainer(output, **{**SETTINGS, **settings})
    trainer.train()
    return trainer


def answered_by_the_model(output: Path, known: bool) -> Dataset:
    """Questions with the answer the model prefers after the style phase, or likes least."""
    style = trained(output, gate="none", max_steps=STYLE_STEPS)
    model = style.model.eval()
    rows = make_rows(24, seed=1)
    letters = style.processing_class.convert_tokens_to_ids([letter.strip() for letter in LETTERS])
    for row in rows:
        ids = style.processing_class(row["prompt"], return_tensors="pt")["input_ids"]
        with torch.no_grad():
            scores = model(input_ids=ids).logits[0, -1, letters]
        row["completion"] = LETTERS[int(scores.argmax() if known else scores.argmin())]
    return Dataset.from_list(rows)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if "threshold at step" in message]


@pytest.mark.parametrize(("known", "value", "reason"), INFINITE)
def test_split_of_one_kind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, known: bool, value: float, reason: str
) -> None:
    calibration = answered_by_the_model(tmp_path / "style", known)
    with caplog.at_level(logging.WARNING, logger="cogcalib"):
        gated = trained(tmp_path / "gated", calibration=calibration)
    n_known = 24 if known else 0
    expected = Threshold(value, 0.0, 1.0, n_known, 24 - n_known, STYLE_STEPS)
    assert gated.threshold_history == [expected]
    assert len(warnings_of(caplog)) == 1
    assert f"The threshold at step {STYLE_STEPS} is {value}: {reason}" in warnings_of(caplog)[0]
    written = json.loads((tmp_path / "gated" / "thresholds.json").read_text())
    assert [Threshold(**row) for row in written] == [expected]

    uniform = trained(tmp_path / "all", gate="all")
    plain = trained(tmp_path / "plain", alpha=0.0)
    assert largest_difference(uniform, plain) > 1e-3
    assert_same_weights(gated, uniform if known else plain)


@pytest.mark.parametrize(("known", "value", "reason"), INFINITE)
def test_log_tells_the_share_known_while_the_threshold_is_infinite(
    tmp_path: Path, known: bool, value: float, reason: str
) -> None:
    calibration = answered_by_the_model(tmp_path / "style", known)
    log = trained(tmp_path / "gated", calibration=calibration).state.log_history
    json.dumps(log, allow_nan=False)
    style, gated = log[:STYLE_STEPS], log[STYLE_STEPS:-1]
    assert len(gated) == 3
    assert not any("calibration_known" in row for row in style)
    assert [row["calibration_known"] for row in gated] == [float(known)] * 3
    assert not any("threshold" in row for row in gated)


def test_log_tells_the_share_known_while_it_is_finite(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.train()
    for row, threshold in zip(trainer.state.log_history, trainer.threshold_history, strict=False):
        assert row["calibration_known"] == pytest.approx(threshold.n_known / 24)
        assert row["threshold"] == pytest.approx(threshold.value)


def test_every_change_is_said_and_nothing_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inf = math.inf
    values = iter([2.0, inf, inf, -inf, -inf, 1.5, 1.6, inf])
    trainer = make_trainer(tmp_path, max_steps=8)
    trainer.run_calibration_pass = lambda: make_reading(
        Threshold(next(values), 0.5, 0.8, 1, 1, trainer.state.global_step), 0.5, 0.5
    )
    with caplog.at_level(logging.WARNING, logger="cogcalib"):
        trainer.train()
    said = warnings_of(caplog)
    assert [text.split(":")[0] for text in said] == [
        "The threshold at step 1 is inf",
        "The threshold at step 3 is -inf",
        "The threshold at step 5 is 1.5",
        "The threshold at step 7 is inf",
    ]
    assert "does not separate known from unknown" in said[0]
    assert "finite again after -inf" in said[2]
