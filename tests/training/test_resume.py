"""An interrupted run that goes on ends where the uninterrupted one does, to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_run import assert_same_weights, make_model, make_trainer
from transformers import TrainerCallback

from cogcalib.training import KnowledgeState
from cogcalib.training.alpha_controller import AlphaStep
from cogcalib.training.checkpoints import begin_checkpoint, last_complete_checkpoint
from cogcalib.training.state import STATE_NAME


class StopAt(TrainerCallback):
    """Stops training after a step, as a kill right after the checkpoint would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step >= self.step


def run(
    output: Path, *, stop: int | None = None, resume: bool | str = False, **settings: Any
) -> Any:
    trainer = make_trainer(
        output,
        model=make_model(attention_dropout=0.2),
        max_steps=10,
        style_steps=2,
        threshold_every=2,
        save_strategy="steps",
        save_steps=1,
        gradient_accumulation_steps=2,
        per_device_train_batch_size=2,
        sft_arguments={"callbacks": [StopAt(stop)] if stop else []},
        **settings,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_alpha_of_the_controller_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", alpha="auto")
    run(tmp_path / "parts", alpha="auto", stop=5)
    resumed = run(tmp_path / "parts", alpha="auto", resume=True)
    assert resumed.knowledge == whole.knowledge
    assert [row.step for row in whole.knowledge.alpha_steps] == [2, 4, 6, 8]
    assert whole.alpha > 0
    assert_same_weights(resumed, whole)
    written = [(tmp_path / name / "strengths.json").read_text() for name in ("whole", "parts")]
    assert written[0] == written[1]
    with pytest.raises(ValueError, match="was trained with alpha='auto', and would go on with al"):
        run(tmp_path / "parts", alpha=0.25, resume=str(tmp_path / "parts" / "checkpoint-5"))


@pytest.mark.parametrize(
    ("gate", "stop"), [("nll", 1), ("nll", 4), ("nll", 5), ("random", 5), ("soft", 9)]
)
def test_resumed_run_equals_the_uninterrupted_one(tmp_path: Path, gate: str, stop: int) -> None:
    whole = run(tmp_path / "whole", gate=gate)
    run(tmp_path / "parts", gate=gate, stop=stop)
    resumed = run(tmp_path / "parts", gate=gate, resume=True)
    assert resumed.threshold_history == whole.threshold_history
    assert [t.step for t in whole.threshold_history] == [2, 4, 6, 8]
    assert resumed.knowledge == whole.knowledge
    assert_same_weights(resumed, whole)
    written = [(tmp_path / name / "thresholds.json").read_text() for name in ("whole", "parts")]
    assert written[0] == written[1]


@pytest.mark.slow
def test_resuming_in_an_automatic_style_phase(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"style_steps": "auto", "threshold_every": 1, "max_steps": 20}
    shared: dict[str, Any] = {"save_strategy": "steps", "save_steps": 1, **settings}
    whole = make_trainer(tmp_path / "whole", **shared)
    whole.train()
    stopped = make_trainer(tmp_path / "parts", sft_arguments={"callbacks": [StopAt(1)]}, **shared)
    stopped.train()
    assert stopped.in_style_phase
    resumed = make_trainer(tmp_path / "parts", **shared)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.knowledge == whole.knowledge
    assert_same_weights(resumed, whole)


def test_training_again_starts_afresh(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.train()
    trainer.train()
    assert [t.step for t in trainer.threshold_history] == [0, 1, 2]


def test_state_survives_the_disk(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.train()
    trainer.knowledge.save(tmp_path)
    assert KnowledgeState.load(tmp_path) == trainer.knowledge


def test_state_of_an_older_checkpoint_is_read(tmp_path: Path) -> None:
    """As a training of July 2026 wrote it."""
    (tmp_path / STATE_NAME).write_text(
        """{
          "style_end": 2, "separations": [0.25],
          "history": [{"value": 0.5, "separation": 0.4, "accuracy": 0.75, "n_known": 3,
                       "n_unknown": 5, "step": 2}],
          "strengths": [{"step": 2, "confidence": 0.7, "accuracy": 0.5, "alpha": 0.3,
                         "integral": 0.3}],
          "curve": {"nll": [0.1, 2.0], "accuracy": [0.9, 0.2]},
          "opened": 4.0, "rate": 0.5, "rate_count": 7, "method": {"gate": "nll"}
        }""",
        encoding="utf-8",
    )
    state = KnowledgeState.load(tmp_path)
    assert state.alpha_steps == [AlphaStep(2, 0.7, 0.5, 0.3, 0.3)]
    assert state.curve is None  # that of a schedule which is gone
    assert state.threshold is not None
    assert state.threshold.value == 0.5
    written = json.loads((tmp_path / STATE_NAME).read_text(encoding="utf-8"))
    known_share = {name: [0.0, 0.0] for name in ("first", "last", "seen")} | {"weight": 0.0}
    since = {"curve": None, "recent": [], "prior": "", "known_share": known_share}
    saved = json.loads(state.save(tmp_path).read_text(encoding="utf-8"))
    assert saved == {**written, **since}


def test_checkpoint_of_another_trainer_is_refused(tmp_path: Path) -> None:
    run(tmp_path, stop=1)
    (tmp_path / "checkpoint-1" / STATE_NAME).unlink()
    with pytest.raises(ValueError, match=STATE_NAME):
        run(tmp_path, resume=str(tmp_path / "checkpoint-1"))
    with pytest.raises(ValueError, match=r"=True, but .* has no complete one"):
        run(tmp_path, resume=True)
    run(tmp_path, gate="none", resume=True)  # plain fine-tuning has nothing to restore


def test_going_on_with_another_method_is_refused(tmp_path: Path) -> None:
    run(tmp_path, stop=1)
    rows = sorted((tmp_path / "ledger").iterdir())
    with pytest.raises(ValueError, match="would go on with gate='none'"):
        run(tmp_path, gate="none", resume=True)
    refusal = r"checkpoint-1 was trained with gate='nll', penalty='label.* go on with gate='all', p"
    with pytest.raises(ValueError, match=refusal):
        run(tmp_path, gate="all", penalty="margin", resume=True)
    assert sorted((tmp_path / "ledger").iterdir()) == rows  # nothing is dropped for it


@pytest.mark.parametrize("damage", ["missing", "cut", "no knowledge"])
def test_checkpoint_cut_short_is_passed_over(tmp_path: Path, damage: str) -> None:
    whole = run(tmp_path / "whole")
    parts = tmp_path / "parts"
    run(parts, stop=5)
    newest = parts / "checkpoint-5"
    if damage == "missing":
        (newest / "trainer_state.json").unlink()
    elif damage == "cut":
        (newest / "trainer_state.json").write_text('{"epoch": 1')
    else:
        (newest / STATE_NAME).unlink()
    assert last_complete_checkpoint(parts, "nll") == str(parts / "checkpoint-4")
    plain = "checkpoint-5" if damage == "no knowledge" else "checkpoint-4"
    assert last_complete_checkpoint(parts, "none") == str(parts / plain)
    resumed = run(parts, resume=True)
    assert resumed.threshold_history == whole.threshold_history
    assert_same_weights(resumed, whole)


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-best").mkdir()
    assert last_complete_checkpoint(tmp_path, "nll") is None
    assert last_complete_checkpoint(tmp_path / "nowhere", "nll") is None


def test_overwriting_a_checkpoint_makes_it_incomplete_first(tmp_path: Path) -> None:
    run(tmp_path, stop=2)
    begin_checkpoint(tmp_path / "checkpoint-2")
    assert last_complete_checkpoint(tmp_path, "nll") == str(tmp_path / "checkpoint-1")


def test_checkpoint_is_complete_only_with_its_state(tmp_path: Path) -> None:
    run(tmp_path, stop=3)
    for step in (1, 2, 3):
        folder = tmp_path / f"checkpoint-{step}"
        state = json.loads((folder / STATE_NAME).read_text())
        assert state["style_end"] == (None if step < 3 else 2)
        assert (folder / STATE_NAME).stat().st_mtime_ns <= (
            folder / "trainer_state.json"
        ).stat().st_mtime_ns
