"""Configuration and the steps it turns into."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import make_args, make_data, make_model, make_tokenizer, make_trainer
from transformers import HfArgumentParser

from cogcalib.losses import GATES, Penalty
from cogcalib.training import CogCalibConfig, CogCalibTrainer, KnowledgeState
from cogcalib.training.schedule import Schedule
from cogcalib.training.state import RATE_WINDOW


def test_command_line_sets_every_field(tmp_path: Path) -> None:
    (config,) = HfArgumentParser(CogCalibConfig).parse_args_into_dataclasses(
        f"--output_dir {tmp_path} --use_cpu --bf16 false --penalty entropy --alpha 0.2 "
        "--support options --gate soft --style_steps auto --threshold_every 7 --margin 2.5 "
        "--margin_reduction sum --entropy_floor 1.5 --nll_reduction sum "
        "--gate_temperature 0.3 --unit turn".split()
    )
    assert config.build_penalty() == Penalty("entropy", "options", 2.5, "sum", 1.5)
    assert (config.style_steps, config.threshold_every) == ("auto", 7)
    assert (config.gate, config.nll_reduction, config.gate_temperature) == ("soft", "sum", 0.3)
    assert config.unit == "turn"


def test_help_can_be_rendered() -> None:
    text = HfArgumentParser(CogCalibConfig).format_help()
    assert "--threshold_every" in text


@pytest.mark.parametrize(("given", "kept"), [("100", 100), ("0.2", 0.2), (3, 3), (0.0, 0.0)])
def test_steps_or_share_keep_their_type(tmp_path: Path, given: Any, kept: Any) -> None:
    style_steps = make_args(tmp_path, style_steps=given, max_steps=-1).style_steps
    assert style_steps == kept
    assert type(style_steps) is type(kept)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"penalty": "hinge"}, "penalty must be one of"),
        ({"penalty": "focal", "alpha": 1.2}, "alpha must be <= 1 with penalty='focal'"),
        ({"penalty": "focal", "gamma": 0.0}, "gamma must be a finite number >= 1"),
        ({"support": "letters"}, "support must be one of"),
        ({"gate": "sometimes"}, "gate must be one of"),
        ({"nll_reduction": "max"}, "nll_reduction"),
        ({"alpha": -0.1}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
        ({"alpha": 1.5}, "alpha must be <= 1"),
        ({"margin": -1.0}, "margin"),
        ({"entropy_floor": -1.0}, "entropy_floor"),
        ({"gate_temperature": 0.0}, "gate_temperature"),
        ({"style_steps": "soon"}, "style_steps .* 'auto', got 'soon'"),
        ({"style_steps": None}, "style_steps"),
        ({"style_steps": True}, "style_steps"),
        ({"style_steps": -1}, "style_steps"),
        ({"style_steps": 2.5}, "style_steps as a share"),
        ({"style_steps": 3}, r"less than the 3 steps of the training \(max_steps\), got 3"),
        ({"threshold_every": 0}, "threshold_every"),
        ({"threshold_every": 1.5}, "threshold_every"),
        ({"threshold_every": "auto"}, "threshold_every"),
        ({"unit": "word"}, r"unit must be one of \['example', 'turn', 'token'\], got 'word'"),
        ({"packing": True, "packing_strategy": "wrapped"}, "packing_strategy='wrapped' is not"),
        ({"packing": True, "max_length": None}, "packing=True needs max_length"),
        ({"eval_packing": True}, "eval_packing=True needs packing=True"),
        ({"use_liger_kernel": True}, r"use_liger_kernel=True is not supported: untested\. TRL"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor"),
        ({"loss_type": "dft"}, "dft"),
        ({"truncation_mode": "keep_end"}, "truncation_mode='keep_end' is not supported: it would"),
        ({"dataset_kwargs": {"skip_prepare_dataset": True}}, "skip_prepare_dataset"),
    ],
)
def test_invalid_configuration_is_refused(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_args(tmp_path, **settings)


@pytest.mark.parametrize(
    ("penalty", "support", "alpha", "margin"),
    [
        ("label_smoothing", "vocab", 0.2, 8),
        ("margin", "options", 0.2, 2),
        ("entropy", "vocab", 0.4, 8),
        ("focal", "vocab", 1.0, 8),
        ("focal", "options", 1.0, 2),
    ],
)
def test_strengths_not_given_are_those_of_the_sweep(
    tmp_path: Path, penalty: str, support: str, alpha: float, margin: float
) -> None:
    args = make_args(tmp_path, penalty=penalty, support=support, alpha=None)
    assert (args.initial_alpha, args.build_penalty().margin) == (alpha, margin)
    assert make_args(tmp_path, alpha=0.0).initial_alpha == 0


@pytest.mark.parametrize(
    ("penalty", "options", "support", "margin"),
    [
        ("margin", True, "options", 2),
        ("margin", False, "vocab", 8),
        ("label_smoothing", True, "options", 2),
        ("focal", True, "vocab", 8),  # it knows no options
    ],
)
def test_the_data_settle_the_support(
    tmp_path: Path, penalty: str, options: bool, support: str, margin: float
) -> None:
    args = make_args(tmp_path, support="auto", penalty=penalty, alpha=None)
    settled = args.settled(options)
    swept = make_args(tmp_path, support=support, penalty=penalty, alpha=None).initial_alpha
    alpha = "gap" if penalty == "label_smoothing" and support == "options" else swept
    assert (settled.support, settled.margin, settled.alpha) == (support, margin, alpha)
    assert settled.build_penalty().support == support
    assert settled.settled(not options) == settled
    assert (args.support, args.margin, args.alpha) == ("auto", None, None)
    given = make_args(tmp_path, support="auto", margin=3.0).settled(True)
    assert (given.margin, given.alpha) == (3, 0.3)


@pytest.mark.parametrize("gate", sorted(set(GATES) - {"nll", "prior"}))
def test_a_control_keeps_a_constant(tmp_path: Path, gate: str) -> None:
    args = make_args(tmp_path, support="options", gate=gate, alpha=None)
    assert args.settled(True).alpha == args.initial_alpha == 0.2


@pytest.mark.parametrize("unit", ["turn", "token"])
def test_where_options_are_not_all_of_an_answer_the_vocabulary_stays(
    tmp_path: Path, unit: str
) -> None:
    assert make_args(tmp_path, support="auto", unit=unit).settled(True).support == "vocab"


def test_options_in_some_rows_alone_are_refused_by_what_to_do(tmp_path: Path) -> None:
    train = make_data(16)
    options = [None, *train["options"][1:]]
    some = train.remove_columns("options").add_column("options", options)
    with pytest.raises(ValueError, match=r"example 0 has no options; .* or set support='vocab'"):
        make_trainer(tmp_path, train=some, support="auto")


def test_left_to_itself_it_smooths_the_options_by_the_gap(tmp_path: Path) -> None:
    """The defaults are what was chosen on the calibration split, see docs/lab-log.md."""
    data = [make_data(16), make_data(16, seed=1)]
    args = CogCalibConfig(str(tmp_path), use_cpu=True, bf16=False, report_to="none")
    trainer = CogCalibTrainer(make_model(), args, *data, processing_class=make_tokenizer())
    assert (trainer.args.support, trainer.args.alpha) == ("options", "gap")
    plain = [each.remove_columns("options") for each in data]
    trainer = CogCalibTrainer(make_model(), args, *plain, processing_class=make_tokenizer())
    assert (trainer.args.support, trainer.args.alpha) == ("vocab", 0.2)


def test_a_support_that_was_named_stays(tmp_path: Path) -> None:
    assert make_args(tmp_path, support="vocab").settled(True).support == "vocab"


@pytest.mark.parametrize("alpha", ["auto", "gap"])
def test_a_strength_found_in_training_is_left_to_it(tmp_path: Path, alpha: str) -> None:
    assert make_args(tmp_path, alpha=alpha).settled(True).alpha == alpha


def test_one_configuration_serves_trainers_with_and_without_options(tmp_path: Path) -> None:
    data = [make_data(16), make_data(16, seed=1)]
    plain = [each.remove_columns("options") for each in data]
    args = make_args(tmp_path, support="auto", penalty="margin", alpha=None)
    for train, calibration, support, margin in ((*plain, "vocab", 8), (*data, "options", 2)):
        trainer = CogCalibTrainer(
            make_model(), args, train, calibration, processing_class=make_tokenizer()
        )
        assert trainer.penalty == Penalty("margin", support, margin)
        used = trainer.args
        assert (used.support, used.margin, used.alpha) == (support, margin, 0.2)
        assert (used.to_dict()["margin"], used.to_dict()["support"]) == (margin, support)


@pytest.mark.parametrize("support", ["vocab", "options"])
@pytest.mark.parametrize("penalty", ["label_smoothing", "margin", "entropy", "focal"])
def test_a_replaced_configuration_is_that_written_anew(
    tmp_path: Path, penalty: str, support: str
) -> None:
    replaced = dataclasses.replace(
        make_args(tmp_path, alpha=None), penalty=penalty, support=support
    )
    anew = make_args(tmp_path, alpha=None, penalty=penalty, support=support)
    assert replaced.build_penalty() == anew.build_penalty()
    assert replaced.initial_alpha == anew.initial_alpha


def test_saved_arguments_say_what_was_used(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, support="auto", penalty="margin", alpha=None)
    trainer.save_model()
    saved = torch.load(tmp_path / "training_args.bin", weights_only=False)
    assert (saved.support, saved.margin, saved.alpha) == ("options", 2, 0.2)


@pytest.mark.parametrize("options", [True, False])
def test_auto_trains_what_the_named_support_does(tmp_path: Path, options: bool) -> None:
    data = [make_data(32), make_data(24, seed=1)]
    if not options:
        data = [each.remove_columns("options") for each in data]
    losses = []
    for support in ("auto", "options" if options else "vocab"):
        trainer = make_trainer(
            tmp_path / support, train=data[0], calibration=data[1], support=support, cut=4.0
        )
        trainer.train()
        losses.append([row["loss"] for row in trainer.state.log_history if "loss" in row])
        assert max(row.get("penalty", 0) for row in trainer.state.log_history) > 0
    assert losses[0] == losses[1]


def test_a_gate_that_never_opens_has_no_style_phase_to_check(tmp_path: Path) -> None:
    assert make_args(tmp_path, gate="none", style_steps=3).style_steps == 3


def test_shares_become_steps() -> None:
    schedule = Schedule.resolve(0.1, 0.25, max_steps=300, epoch_steps=100)
    assert schedule == Schedule(style_steps=30, auto=False, every=25, early=25, epoch=100)
    due = [step for step in range(101) if schedule.is_due(step, 30 if step > 30 else None)]
    assert due == [30, 55, 80]


def test_one_whole_epoch_is_not_one_step() -> None:
    assert Schedule.resolve(0, 1.0, max_steps=300, epoch_steps=100).every == 100
    assert Schedule.resolve(0, 1, max_steps=300, epoch_steps=100).every == 1


def test_a_share_always_leaves_a_step_to_gate() -> None:
    assert Schedule.resolve(0.9, 1, max_steps=1, epoch_steps=1).style_steps == 0


def test_style_phase_as_long_as_the_training_is_refused() -> None:
    with pytest.raises(ValueError, match="style_steps must be less than the 10 steps"):
        Schedule.resolve(10, 1, max_steps=10, epoch_steps=10)


def test_auto_measures_every_so_often_and_ends_when_two_in_a_row_do_not_improve() -> None:
    schedule = Schedule.resolve("auto", 10, max_steps=1000, epoch_steps=100)
    assert schedule == Schedule(style_steps=300, auto=True, every=10, early=10, epoch=100)
    assert [s for s in range(41) if schedule.is_due(s, None)] == [0, 10, 20, 30, 40]
    assert not schedule.style_is_over(10, [0.5, 0.4])
    assert not schedule.style_is_over(20, [0.3, 0.5, 0.6])
    assert schedule.style_is_over(20, [0.5, 0.4, 0.505])
    assert not schedule.style_is_over(20, [0.5, 0.4, 0.52])
    assert schedule.style_is_over(300, [0.1, 0.2])


def test_rate_is_a_running_mean() -> None:
    state = KnowledgeState()
    for share in (1.0, 0.0, 0.5):
        state.update_rate(share)
    assert state.rate == pytest.approx(0.5)
    for _ in range(10 * RATE_WINDOW):
        state.update_rate(0.2)
    assert state.rate == pytest.approx(0.2, abs=1e-3)
    assert state.rate_count == RATE_WINDOW


@pytest.mark.parametrize(
    ("n_train", "share"), [(400, 1.0), (10_000, 0.83), (20_000, 0.42), (100_000, 0.25)]
)
def test_by_default_estimating_takes_two_percent_between_once_and_four_times_an_epoch(
    n_train: int, share: float
) -> None:
    assert Schedule.default_share(n_train, 500) == pytest.approx(share, abs=0.01)


def test_an_automatic_style_phase_is_measured_even_if_the_threshold_is_seldom_estimated() -> None:
    schedule = Schedule.resolve("auto", 1.0, max_steps=600, epoch_steps=600)
    due = [step for step in range(schedule.style_steps) if schedule.is_due(step, None)]
    assert len(due) == 6
    assert not any(schedule.is_due(step, 100) for step in range(101, 600))
