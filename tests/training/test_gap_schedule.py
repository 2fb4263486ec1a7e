"""``alpha="gap"``: the curves, where they come from, and that the trainer obeys them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_resume import run
from tiny_run import assert_same_weights, make_args, make_data, make_trainer, weights

from cogcalib.losses import GapCurve
from cogcalib.posthoc import IsotonicCalibration, PlattScaling
from cogcalib.training import gap_schedule
from cogcalib.training.gap_schedule import FEWEST, gap_curve, shrunk_accuracy
from cogcalib.training.measured_answers import OwnAnswers
from cogcalib.training.recent_answers import RecentAnswers
from cogcalib.training.state import KnowledgeState

answers = st.lists(st.tuples(st.floats(0, 10), st.booleans()), min_size=1, max_size=40)


def drawn(n: int, seed: int, truth: Any) -> OwnAnswers:
    """Answers of confidences spread over [0.25, 1], right as often as `truth` of them says."""
    source = np.random.default_rng(seed)
    confidence = source.uniform(0.25, 1, n)
    right = source.uniform(size=n) < truth(confidence)
    return OwnAnswers(-np.log(confidence), right.astype(float))


@given(answers)
def test_accuracy_is_a_fraction_and_never_rises_with_the_nll(
    rows: list[tuple[float, bool]],
) -> None:
    own = OwnAnswers(np.array([r[0] for r in rows]), np.array([float(r[1]) for r in rows]))
    found = shrunk_accuracy(own, np.linspace(0, 12, 30))
    assert found.min() >= 0
    assert found.max() <= 1
    assert np.diff(found).max() <= 1e-12


@settings(max_examples=20)
@given(answers, st.randoms())
def test_order_does_not_matter(rows: list[tuple[float, bool]], source: Any) -> None:
    at = np.linspace(0, 12, 30)
    mixed = list(rows)
    source.shuffle(mixed)
    found = []
    for each in (rows, mixed):
        nll, right = (np.array([row[k] for row in each], dtype=float) for k in (0, 1))
        found.append(shrunk_accuracy(OwnAnswers(nll, right), at))
    np.testing.assert_array_equal(*found)


def test_it_lies_between_its_two_parts_and_takes_the_shape_that_fits() -> None:
    at = -np.log(np.linspace(0.3, 0.99, 40))
    sigmoid = drawn(3000, 0, lambda c: c)  # its logit is a line
    steps = drawn(3000, 1, lambda c: np.where(c > 0.9, 0.95, 0.4))
    errors = {}
    for name, sample, truth in (
        ("sigmoid", sigmoid, np.exp(-at)),
        ("steps", steps, np.where(np.exp(-at) > 0.9, 0.95, 0.4)),
    ):
        confidence, right = np.exp(-sample.nll), sample.correct == 1
        parts = [
            each.fit(confidence, right).transform(np.exp(-at))
            for each in (IsotonicCalibration(), PlattScaling())
        ]
        found = shrunk_accuracy(sample, at)
        assert (found >= np.minimum(*parts) - 1e-9).all()
        assert (found <= np.maximum(*parts) + 1e-9).all()
        errors[name] = [float(((each - truth) ** 2).mean()) for each in (found, *parts)]
    assert errors["steps"][0] < 0.5 * errors["steps"][2]  # Platt cannot bend like that
    assert errors["sigmoid"][0] < errors["sigmoid"][1]  # isotonic follows the noise


def rows_of(sample: OwnAnswers) -> list[tuple[int, float, float]]:
    pairs = zip(sample.nll.tolist(), sample.correct.tolist(), strict=True)
    return [(0, own, right) for own, right in pairs]


@pytest.mark.parametrize("gated", [False, True])
def test_what_was_remembered_is_smoothed_and_what_is_new_is_not(gated: bool) -> None:
    held_out = drawn(2000, 0, lambda c: 0.25 + 0.6 * (c - 0.25))
    new = drawn(2000, 1, lambda c: 0.25 + 0.6 * (c - 0.25))
    remembered = drawn(2000, 2, lambda c: np.ones_like(c))
    own = -torch.log(torch.linspace(0.4, 0.95, 12, dtype=torch.float64))
    k = torch.full((12,), 4)
    fresh = gap_curve(held_out, rows_of(new), gated=gated).smoothing(own, k)
    assert float(fresh.mean()) < 0.06  # of noise alone
    old = gap_curve(held_out, rows_of(remembered), gated=gated).smoothing(own, k)
    expected = (1 - (0.25 + 0.6 * (torch.exp(-own) - 0.25))) * 4 / 3
    torch.testing.assert_close(old, expected, atol=0.08, rtol=0)


def test_too_few_training_answers_smooth_nothing() -> None:
    held_out = drawn(FEWEST, 0, lambda c: 0 * c)
    few = rows_of(drawn(FEWEST - 1, 1, lambda c: 0 * c + 1))
    for seen in ([], few, [*few, (0, float("nan"), 1.0)]):
        curve = gap_curve(held_out, seen, gated=False)
        assert float(curve.smoothing(torch.ones(1))) == 0
    enough = gap_curve(held_out, [*few, (0, 0.5, 1.0)], gated=False)
    assert float(enough.smoothing(torch.ones(1))) > 0.9


def test_state_brings_the_curve_and_its_answers_back(tmp_path: Path) -> None:
    curve = GapCurve((0.1, 2.3), (1 / 3, 0.1), (0.9, 0.2), gated=True)
    state = KnowledgeState(curve=curve, recent=[(3, 0.1 + 0.2, 1.0), (4, 1 / 3, 0.0)])
    state.save(tmp_path)
    assert KnowledgeState.load(tmp_path) == state


# ---- The trainer ----


def test_its_training_answers_are_those_of_the_ledger(tmp_path: Path) -> None:
    """Seen before the step that learns them, of the latest whole steps."""
    from cogcalib.knowledge.ledger import read_ledger

    rows = make_data(32).remove_columns("options")  # so that right is every token's arg max
    held_out = make_data(20, seed=1).remove_columns("options")
    trainer = make_trainer(
        tmp_path, train=rows, calibration=held_out, alpha="gap", nll_reduction="sum", max_steps=6
    )
    trainer.train()
    trainer.gather_knowledge()
    ledger = read_ledger(tmp_path).to_pylist()
    expected = sorted(
        (row["step"], -np.log(row["confidence"]), row["right"])
        for row in ledger
        if row["step"] >= 3  # 20 units take three steps of eight
    )
    np.testing.assert_allclose(trainer.knowledge.recent, expected, rtol=1e-4)


def test_nothing_is_kept_for_other_alphas(tmp_path: Path) -> None:
    assert make_trainer(tmp_path, alpha="auto").recent is None


@pytest.mark.parametrize(("gate", "gated"), [("nll", True), ("all", False)])
@pytest.mark.parametrize("support", ["vocab", "options"])
def test_trainer_smooths_by_the_curve(tmp_path: Path, gate: str, gated: bool, support: str) -> None:
    settings: dict[str, Any] = {"max_steps": 8, "style_steps": 4, "threshold_every": 2}
    trainer = make_trainer(tmp_path, alpha="gap", gate=gate, support=support, **settings)
    trainer.train()
    curve = trainer.knowledge.curve
    assert isinstance(curve, GapCurve)
    assert curve.gated is gated
    assert len(curve.nll) > 1
    assert trainer.alpha == 1.0


def test_before_anything_was_trained_on_nothing_is_smoothed(tmp_path: Path) -> None:
    gap = make_trainer(tmp_path / "gap", alpha="gap", gate="all", max_steps=1)
    gap.train()
    plain = make_trainer(tmp_path / "plain", alpha=0.0, gate="all", max_steps=1)
    plain.train()
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(gap)[name], value)


@pytest.mark.parametrize("support", ["vocab", "options"])
def test_a_fixed_level_curve_trains_as_a_constant_alpha(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, support: str
) -> None:
    level = GapCurve((0.0,), (0.6,), (0.9,), gated=True)
    monkeypatch.setattr(gap_schedule, "gap_curve", lambda held_out, seen, gated: level)
    k = torch.tensor([4]) if support == "options" else None
    constant = float(level.smoothing(torch.zeros(1).double(), k))
    trained = []
    for alpha in ("gap", constant):
        trainer = make_trainer(tmp_path / str(alpha), alpha=alpha, support=support)
        trainer.train()
        trained.append(trainer)
    assert_same_weights(*trained, tolerance=1e-5)


@pytest.mark.parametrize("gate", ["nll", "all"])
def test_resumed_run_equals_the_uninterrupted_one(tmp_path: Path, gate: str) -> None:
    whole = run(tmp_path / "whole", alpha="gap", gate=gate)
    run(tmp_path / "parts", alpha="gap", gate=gate, stop=5)
    resumed = run(tmp_path / "parts", alpha="gap", gate=gate, resume=True)
    assert resumed.knowledge == whole.knowledge
    assert len(whole.knowledge.recent) == 24
    assert_same_weights(resumed, whole)


@pytest.mark.parametrize("settings", [{"penalty": "margin"}, {"gate": "none"}])
def test_where_it_means_nothing_it_is_refused(tmp_path: Path, settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="alpha='gap' needs penalty='label_smoothing'"):
        make_args(tmp_path, alpha="gap", **settings)


def test_it_needs_a_calibration_split(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="alpha='gap' needs a calibration_dataset"):
        make_trainer(tmp_path, calibration=None, alpha="gap", gate="all")


def test_how_often_they_are_gathered_makes_no_difference() -> None:
    seldom, often = RecentAnswers(10), RecentAnswers(10)
    rows: list[tuple[int, float, float]] = []
    for step in range(9):
        for keeper in (seldom, often):
            keeper.add(step, torch.tensor([[step + 0.5, step + 0.25, 1.0], [1.0, 0.0, 1.0]]))
        if step % 3 == 2:
            rows = often.gather(rows)
    assert [row[0] for row in rows] == [5] * 3 + [6] * 3 + [7] * 3 + [8] * 3
    assert seldom.gather([]) == rows
