"""``alpha="auto"``: the controller, what it reads, and that the trainer obeys it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_run import make_args, make_reading, make_trainer, weights

from cogcalib.losses import token_statistics
from cogcalib.records import Threshold
from cogcalib.training.alpha_controller import (
    FOLLOWED,
    INTEGRAL,
    PROPORTIONAL,
    AlphaController,
    AlphaStep,
)
from cogcalib.training.measured_answers import confident_units
from cogcalib.training.supervision import SupervisedTokens, Units

fractions = st.floats(0, 1)


def settle(
    controller: AlphaController,
    gap_without: float,
    response: float,
    at_once: float = 1 / 3,
    passes: int = 60,
) -> list[float]:
    """Gaps of a model whose confidence goes `at_once` of its way at each pass."""
    gap, gaps, latest = 0.0, [], None
    for step in range(passes):
        latest = controller.next(latest, step, 0.5 + gap, 0.5)
        gap += (gap_without - response * latest.alpha - gap) * at_once
        gaps.append(gap)
    return gaps


@pytest.mark.parametrize("at_once", [0.1, 0.33, 0.67, 1.0])
@pytest.mark.parametrize("response", [0.6, 1.0, 1.4])
@pytest.mark.parametrize("gap_without", [0.05, 0.2, 0.35])
def test_the_gap_closes_without_swinging(
    gap_without: float, response: float, at_once: float
) -> None:
    gaps = settle(AlphaController(), gap_without, response, at_once)
    assert abs(gaps[-1]) < 0.05 * gap_without
    assert min(gaps) > -0.12 * gap_without


@pytest.mark.parametrize("response", [0.6, 1.0, 1.4])
def test_from_a_start_near_the_goal_few_passes_are_enough(response: float) -> None:
    for gap_without in (0.15, 0.2, 0.3):
        cold = settle(AlphaController(), gap_without, response, passes=7)
        warm = settle(AlphaController(start=0.2), gap_without, response, passes=7)
        assert abs(warm[-1]) < abs(cold[-1])


def test_the_start_is_held_while_there_is_no_gap() -> None:
    controller = AlphaController(scale=2.0, largest=4.0, start=0.4)
    first = controller.next(None, 0, 0.7, 0.7)
    assert first == AlphaStep(0, 0.7, 0.7, 0.4, 0.2)
    assert controller.next(first, 1, 0.7, 0.7).alpha == pytest.approx(0.4)


def test_scale_is_the_unit_of_alpha() -> None:
    plain = settle(AlphaController(), 0.2, 1.0)
    weak = settle(AlphaController(scale=2, largest=2), 0.2, 0.5)
    assert weak == pytest.approx(plain)


def test_first_passes_are_the_formula() -> None:
    controller = AlphaController()
    first = controller.next(None, 7, 0.9, 0.8)
    assert first.alpha == pytest.approx(FOLLOWED * (PROPORTIONAL + INTEGRAL) * 0.1)
    assert (first.step, first.confidence, first.accuracy) == (7, 0.9, 0.8)
    second = controller.next(first, 8, 0.9, 0.7)
    wanted = PROPORTIONAL * 0.2 + INTEGRAL * 0.3
    assert second.alpha == pytest.approx(first.alpha + FOLLOWED * (wanted - first.alpha))


def test_a_gate_that_lets_nothing_through_is_not_held_against_alpha() -> None:
    controller = AlphaController()
    first = controller.next(None, 0, 0.9, 0.8)
    shut = first
    for step in range(1, 30):
        shut = controller.next(shut, step, 0.9, 0.8, acted=False)
    assert shut.integral == first.integral


@given(st.lists(st.tuples(fractions, fractions), min_size=1, max_size=30), st.floats(0.5, 3))
def test_alpha_stays_within_its_limits(passes: list[tuple[float, float]], scale: float) -> None:
    controller, latest = AlphaController(scale=scale, largest=1.0), None
    for step, (confidence, accuracy) in enumerate(passes):
        latest = controller.next(latest, step, confidence, accuracy)
        assert 0 <= latest.alpha <= 1


def test_a_limit_does_not_wind_up() -> None:
    controller, latest = AlphaController(largest=0.5), None
    for step in range(80):
        latest = controller.next(latest, step, 1.0, 0.5)
    assert latest.alpha == pytest.approx(0.5)
    # The first pass without a gap frees it: the sum did not grow behind the limit.
    assert controller.next(latest, 80, 0.5, 0.5).alpha < 0.45
    low = None
    for step in range(50):
        low = controller.next(low, step, 0.2, 0.9)
    assert low == AlphaStep(49, 0.2, 0.9, 0.0, 0.0)


def test_what_is_read() -> None:
    logits = torch.tensor(
        [[2.0, 1.0, 3.0], [0.0, 5.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 4.0]],
        dtype=torch.float64,
    )
    # An answer with options, one of two tokens of which the second is wrong, one that is right.
    targets = torch.tensor([0, 0, 0, 0, 2])
    known = torch.tensor([True, True, True])
    units = Units(torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 1, 2]), known)
    options = torch.tensor([[0, 1], [-1, -1], [-1, -1], [-1, -1], [-1, -1]])
    tokens = SupervisedTokens(torch.empty(0, dtype=torch.bool), targets, units, options)
    p = logits.softmax(1)
    found = token_statistics(logits, tokens.targets, tokens.options)
    confidence, right = confident_units(found, tokens, "options")
    among = p[0, 0] / (p[0, 0] + p[0, 1])
    open_ended = [(p[2, 0] * p[3, 1]).sqrt(), p[4, 2]]
    torch.testing.assert_close(confidence, torch.stack([among, *open_ended]))
    assert right.tolist() == [1.0, 0.0, 1.0]
    confidence, right = confident_units(found, tokens, "vocab")
    torch.testing.assert_close(confidence, torch.stack([p[0, 2], *open_ended]))
    assert right.tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("gate", ["nll", "all"])
@pytest.mark.parametrize("support", ["vocab", "options"])
def test_the_trainer_follows_its_calibration_split(tmp_path: Path, gate: str, support: str) -> None:
    trainer = make_trainer(tmp_path, alpha="auto", gate=gate, support=support, max_steps=6)
    trainer.train()
    steps, latest = trainer.knowledge.alpha_steps, None
    assert len(steps) == 6
    logged = [entry for entry in trainer.state.log_history if "alpha" in entry]
    acted = [True, *(entry["gate_rate"] > 0 for entry in logged)]
    for row, open_since in zip(steps, acted, strict=False):
        answer = (row.confidence, row.accuracy)
        controller = trainer.args.alpha_controller
        latest = controller.next(latest, row.step, *answer, acted=open_since)
        assert row == latest
    assert [entry["alpha"] for entry in logged] == pytest.approx([s.alpha for s in steps])
    gaps = [s.confidence - s.accuracy for s in steps]
    assert [entry["calibration_gap"] for entry in logged] == pytest.approx(gaps)


def test_the_controllers_alpha_reaches_the_loss(tmp_path: Path) -> None:
    def trained(alpha: float | str) -> dict[str, torch.Tensor]:
        trainer = make_trainer(tmp_path, alpha=alpha, gate="all", threshold_every=99, max_steps=3)
        overconfident = make_reading(Threshold(1.0, 0.5, 0.8, 12, 12), 0.7, 0.5)
        trainer.run_calibration_pass = lambda: overconfident
        trainer.train()
        tuned.append(trainer.alpha)
        return weights(trainer)

    tuned: list[float] = []
    by_itself = trained("auto")
    usual = make_args(tmp_path, alpha="auto").initial_alpha
    assert tuned[0] == pytest.approx(usual + FOLLOWED * 0.2 * (PROPORTIONAL + INTEGRAL))
    given = trained(tuned[0])
    for name, weight in by_itself.items():
        torch.testing.assert_close(weight, given[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": "much"}, "alpha must be a number, 'auto' or 'gap', got 'much'"),
        ({"alpha": "auto", "gate": "none"}, "alpha='auto' has nothing to tune"),
        ({"alpha": "auto", "penalty": "focal"}, "alpha='auto' has nothing to tune"),
    ],
)
def test_what_cannot_tune_itself_is_refused(
    tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_args(tmp_path, **settings)


def test_a_command_line_gives_numbers_as_strings(tmp_path: Path) -> None:
    assert make_args(tmp_path, alpha="0.25").initial_alpha == 0.25


def test_no_calibration_data_nothing_to_tune_by(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="alpha='auto' needs a calibration_dataset"):
        make_trainer(tmp_path, alpha="auto", gate="all", calibration=None)


@pytest.mark.parametrize("penalty", ["label_smoothing", "margin", "entropy"])
def test_limits_by_penalty(tmp_path: Path, penalty: str) -> None:
    controller = make_args(tmp_path, alpha="auto", penalty=penalty).alpha_controller
    assert controller.largest == {"label_smoothing": 1.0, "margin": 2.0, "entropy": 4.0}[penalty]
    assert controller.scale == {"entropy": 2.0}.get(penalty, 1.0)
    assert controller.start == make_args(tmp_path, alpha=None, penalty=penalty).initial_alpha


@pytest.mark.parametrize(("every", "warned"), [(3, False), (4, True)])
def test_too_few_passes_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, every: int, warned: bool
) -> None:
    trainer = make_trainer(tmp_path, alpha="auto", max_steps=12, threshold_every=every)
    with caplog.at_level("WARNING", logger="cogcalib"):
        trainer.train()
    assert ("3 calibration passes" in caplog.text) is warned
    assert ("set threshold_every to at most 3 steps" in caplog.text) is warned
