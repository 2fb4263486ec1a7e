"""What the log says reaches a tracker through `report_to`.

TensorBoard's files are read back. In the place of W&B and trackio stands a module that keeps what
transformers' own callbacks give it.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
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


def trained(output: Path, tracker: str, alpha: float | str) -> Any:
    trainer = make_trainer(
        output,
        report_to=tracker,
        support="auto",
        alpha=alpha,
        max_steps=STEPS,
        style_steps=STYLE,
        sft_arguments={"eval_dataset": make_data(8, seed=2)},
        eval_strategy="steps",
        eval_steps=3,
    )
    trainer.train()
    return trainer


def assert_drawn_as_logged(
    drawn: dict[str, dict[int, float]], trainer: Any, alpha: float | str
) -> None:
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


@pytest.mark.parametrize("alpha", ["auto", 0.3])
def test_tensorboard_draws_the_curves_of_the_log(tmp_path: Path, alpha: float | str) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard (pip install tensorboard)")
    trainer = trained(tmp_path, "tensorboard", alpha)
    assert_drawn_as_logged(curves(tmp_path), trainer, alpha)


class StandIn(ModuleType):
    """What transformers' callbacks use of `wandb` and `trackio`; keeps what it is given.

    Attributes:
        config: The settings of the run.
        drawn: Tag -> step -> value.
    """

    __version__ = "1.0"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)
        self.run: Any = None
        self.drawn: dict[str, dict[int, float]] = {}
        self.settings: dict[str, Any] = {}
        self.config = self
        self.context_vars = SimpleNamespace(current_space_id=SimpleNamespace(get=lambda: None))

    def init(self, **settings: Any) -> None:
        self.run = SimpleNamespace(summary={}, _label=lambda **_: None)

    def update(self, settings: dict[str, Any], allow_val_change: bool) -> None:
        self.settings.update(settings)

    def __setitem__(self, name: str, value: Any) -> None:
        self.settings[name] = value

    def log(self, values: dict[str, float]) -> None:
        step = int(values.pop("train/global_step"))
        for tag, value in values.items():
            self.drawn.setdefault(tag, {})[step] = value

    def finish(self) -> None:
        self.run = None


@pytest.fixture(params=["wandb", "trackio"])
def tracker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn(request.param)
    monkeypatch.setitem(sys.modules, request.param, stand_in)
    if request.param == "wandb":
        errors = ModuleType("wandb.sdk.lib.config_util")
        errors.ConfigError = ValueError  # type: ignore[attr-defined]
        for name in ("wandb.sdk", "wandb.sdk.lib"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.setitem(sys.modules, errors.__name__, errors)
    return stand_in


@pytest.mark.parametrize("alpha", ["auto", 0.3])
def test_wandb_and_trackio_are_given_the_curves_of_the_log(
    tmp_path: Path, tracker: StandIn, alpha: float | str
) -> None:
    trainer = trained(tmp_path, tracker.__name__, alpha)
    assert_drawn_as_logged(tracker.drawn, trainer, alpha)
    used = {"support": "options", "margin": 2.0, "alpha": alpha}
    assert {name: tracker.settings[name] for name in used} == used


def test_an_infinite_threshold_leaves_a_gap(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard (pip install tensorboard)")
    make_trainer(tmp_path, report_to="tensorboard", cut=float("inf")).train()
    drawn = curves(tmp_path)
    assert "train/threshold" not in drawn
    assert sorted(drawn["train/calibration_known"]) == [1, 2, 3]
