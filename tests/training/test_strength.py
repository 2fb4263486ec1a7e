"""``alpha="auto"``: the law, what it reads, and that the trainer obeys it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_run import make_args, make_trainer, weights

from cogcalib.losses import token_statistics
from cogcalib.records import Threshold
from cogcalib.training.forward import Located
from cogcalib.training.knowledge import CalibrationReading, confident_units
from cogcalib.training.segments import Units
from cogcalib.training.strength import INTEGRAL, PROPORTIONAL, Strength, StrengthLaw

fractions = st.floats(0, 1)


def settle(
    law: StrengthLaw, gap_without: float, response: float, readings: int = 60
) -> list[float]:
    """Gaps of a model whose confidence follows alpha late: a third of the way each reading."""
    gap, gaps, strength = 0.0, [], None
    for step in range(readings):
        strength = law.next(strength, step, 0.5 + gap, 0.5)
        gap += (gap_without - response * strength.alpha - gap) / 3
        gaps.append(gap)
    return gaps


@pytest.mark.parametrize("response", [0.6, 1.0, 1.4])
@pytest.mark.parametrize("gap_without", [0.05, 0.2, 0.35])
def test_the_gap_closes_without_swinging_far(gap_without: float, response: float) -> None:
    gaps = settle(StrengthLaw(), gap_without, response)
    assert abs(gaps[-1]) < 0.1 * gap_without
    assert min(gaps) > -0.25 * gap_without


def test_scale_is_the_unit_of_alpha() -> None:
    plain = settle(StrengthLaw(), 0.2, 1.0)
    weak = settle(StrengthLaw(scale=2), 0.2, 0.5)
    assert weak == pytest.approx(plain)


def test_first_reading_is_the_formula() -> None:
    strength = StrengthLaw().next(None, 7, 0.9, 0.8)
    assert strength.alpha == pytest.approx((PROPORTIONAL + INTEGRAL) * 0.1)
    assert (strength.step, strength.confidence, strength.accuracy) == (7, 0.9, 0.8)


@given(st.lists(st.tuples(fractions, fractions), min_size=1, max_size=30), st.floats(0.5, 3))
def test_alpha_stays_within_its_limits(readings: list[tuple[float, float]], scale: float) -> None:
    law, strength = StrengthLaw(scale=scale, largest=1.0), None
    for step, (confidence, accuracy) in enumerate(readings):
        strength = law.next(strength, step, confidence, accuracy)
        assert 0 <= strength.alpha <= 1


def test_a_limit_does_not_wind_up() -> None:
    law, strength = StrengthLaw(largest=0.5), None
    for step in range(50):
        strength = law.next(strength, step, 1.0, 0.5)
    assert strength.alpha == 0.5
    # The first reading without a gap frees it: the sum did not grow behind the limit.
    assert law.next(strength, 50, 0.5, 0.5).alpha < 0.5
    low = None
    for step in range(50):
        low = law.next(low, step, 0.2, 0.9)
    assert low == Strength(49, 0.2, 0.9, 0.0, 0.0)


def test_what_is_read() -> None:
    logits = torch.tensor(
        [[2.0, 1.0, 3.0], [0.0, 5.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], dtype=torch.float64
    )
    targets = torch.tensor([0, 0, 0, 0])
    units = Units(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1]), torch.tensor([True, True]))
    options = torch.tensor([[0, 1], [-1, -1], [-1, -1], [-1, -1]])
    located = Located(torch.empty(0, dtype=torch.bool), targets, units, options)
    p = logits.softmax(1)
    found = token_statistics(logits, located.targets, located.options)
    confidence, right = confident_units(found, located, "options")
    among = p[0, 0] / (p[0, 0] + p[0, 1])
    open_ended = (p[2, 0] + p[3, 1]) / 2
    torch.testing.assert_close(confidence, torch.stack([among, open_ended]))
    assert right.tolist() == [1.0, 0.5]
    confidence, right = confident_units(found, located, "vocab")
    torch.testing.assert_close(confidence, torch.stack([p[0, 2], open_ended]))
    assert right.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("gate", ["nll", "all"])
@pytest.mark.parametrize("support", ["vocab", "options"])
def test_the_trainer_follows_its_calibration_split(tmp_path: Path, gate: str, support: str) -> None:
    trainer = make_trainer(tmp_path, alpha="auto", gate=gate, support=support, max_steps=6)
    trainer.train()
    strengths, strength = trainer.knowledge.strengths, None
    assert len(strengths) == 6
    for row in strengths:
        strength = trainer.args.strength_law.next(strength, row.step, row.confidence, row.accuracy)
        assert row == strength
    logged = [entry for entry in trainer.state.log_history if "alpha" in entry]
    assert [entry["alpha"] for entry in logged] == pytest.approx([s.alpha for s in strengths])
    gaps = [s.confidence - s.accuracy for s in strengths]
    assert [entry["calibration_gap"] for entry in logged] == pytest.approx(gaps)


def test_the_strength_reaches_the_loss(tmp_path: Path) -> None:
    def trained(alpha: float | str) -> dict[str, torch.Tensor]:
        trainer = make_trainer(tmp_path, alpha=alpha, gate="all", threshold_every=99, max_steps=3)
        overconfident = CalibrationReading(Threshold(1.0, 0.5, 0.8, 12, 12), 0.7, 0.5)
        trainer.read_calibration = lambda: overconfident
        trainer.train()
        tuned.append(trainer.alpha)
        return weights(trainer)

    tuned: list[float] = []
    by_itself = trained("auto")
    assert tuned[0] == pytest.approx(0.2 * (PROPORTIONAL + INTEGRAL))
    given = trained(tuned[0])
    for name, weight in by_itself.items():
        torch.testing.assert_close(weight, given[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": "much"}, "alpha must be a number or 'auto', got 'much'"),
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
    assert make_args(tmp_path, alpha="0.25").strength == 0.25


def test_no_calibration_data_nothing_to_tune_by(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="alpha='auto' needs a calibration_dataset"):
        make_trainer(tmp_path, alpha="auto", gate="all", calibration=None)


@pytest.mark.parametrize("penalty", ["label_smoothing", "margin", "entropy"])
def test_limits_by_penalty(tmp_path: Path, penalty: str) -> None:
    law = make_args(tmp_path, alpha="auto", penalty=penalty).strength_law
    assert law.largest == (1.0 if penalty == "label_smoothing" else math.inf)
    assert law.scale == {"entropy": 2.0}.get(penalty, 1.0)
