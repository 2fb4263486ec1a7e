"""``alpha="calibrated"``: the curve, what it asks for, and that the trainer obeys it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from tiny_run import make_args, make_trainer, weights

from cogcalib.losses import AccuracyCurve, Penalty, token_penalty
from cogcalib.posthoc import IsotonicCalibration
from cogcalib.training import calibration_pass
from cogcalib.training.calibration_pass import accuracy_curve
from cogcalib.training.state import KnowledgeState

answers = st.lists(st.tuples(st.floats(0, 10), st.booleans()), min_size=1, max_size=40)


@given(answers)
def test_curve_is_isotonic_calibration_of_the_confidence(rows: list[tuple[float, bool]]) -> None:
    nll, right = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    curve = accuracy_curve(torch.as_tensor(nll), torch.as_tensor(right.astype(float)))
    assert list(curve.nll) == sorted(set(curve.nll))
    fitted = 1 - curve.smoothing(torch.as_tensor(nll)).numpy()
    # The same regression, by the map from confidence to accuracy; ranks keep ties apart in exp.
    ranks = np.unique(nll, return_inverse=True)[1]
    confidence = 1 - ranks / (ranks.max() + 1)
    known = IsotonicCalibration().fit(confidence, right)
    np.testing.assert_allclose(fitted, known.transform(confidence), atol=1e-9)


def test_between_bends_it_is_linear_and_beyond_them_constant() -> None:
    curve = AccuracyCurve((1.0, 3.0), (0.9, 0.5))
    asked = torch.tensor([0.0, 1.0, 2.0, 3.0, 9.0], dtype=torch.float64)
    expected = torch.tensor([0.1, 0.1, 0.3, 0.5, 0.5], dtype=torch.float64)
    torch.testing.assert_close(curve.smoothing(asked), expected)


@pytest.mark.parametrize("accuracy", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("n_options", [2, 4, 5])
def test_alpha_asks_for_the_accuracy(accuracy: float, n_options: int) -> None:
    """The share of the gold option that minimises CE + e R over the options is the accuracy."""
    curve = AccuracyCurve((0.0,), (accuracy,))
    k = torch.tensor([n_options])
    e = float(curve.smoothing(torch.zeros(1, dtype=torch.float64), k))
    ids, penalty = torch.arange(n_options)[None], Penalty("label_smoothing", "options")

    def objective(logit: float) -> float:
        scores = torch.zeros(1, n_options, dtype=torch.float64)
        scores[0, 0] = logit
        target = torch.zeros(1, dtype=torch.long)
        ce = -scores.log_softmax(1)[0, 0]
        return float(ce + e * token_penalty(penalty, scores, target, ids)[0])

    best = minimize_scalar(objective, bounds=(-9, 9), method="bounded", options={"xatol": 1e-9}).x
    share = np.exp(best) / (np.exp(best) + n_options - 1)
    # Below chance no smoothing asks for anything but chance.
    assert share == pytest.approx(max(accuracy, 1 / n_options), abs=1e-6)


def test_state_brings_the_curve_back(tmp_path: Path) -> None:
    state = KnowledgeState(curve=AccuracyCurve((0.1, 2.3), (1 / 3, 0.1)))
    state.save(tmp_path)
    assert KnowledgeState.load(tmp_path) == state


@pytest.mark.parametrize("support", ["vocab", "options"])
def test_trainer_gives_each_known_example_its_alpha(tmp_path: Path, support: str) -> None:
    """One step with the curve is one step with the weights that the curve says."""
    trainer = make_trainer(tmp_path, alpha="calibrated", support=support)
    trainer.train()
    curve = trainer.knowledge.curve
    assert curve is not None
    assert trainer.alpha == 1.0
    located_counts = torch.tensor([4, 4])
    gate = trainer._gate(_FourOptions(located_counts), None)
    nll = torch.tensor([0.0, 1e9])
    expected = curve.smoothing(nll, located_counts if support == "options" else None)
    expected[1] = 0.0  # not known
    torch.testing.assert_close(gate.weights(nll), expected)


class _FourOptions:
    """Two units of four options each."""

    def __init__(self, counts: torch.Tensor) -> None:
        self.units, self._counts = counts, counts

    def n_options(self) -> torch.Tensor:
        return self._counts


def test_a_curve_of_ones_is_plain_fine_tuning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certain = AccuracyCurve((0.0,), (1.0,))
    monkeypatch.setattr(calibration_pass, "accuracy_curve", lambda own_nll, correct: certain)
    calibrated = make_trainer(tmp_path / "one", alpha="calibrated")
    calibrated.train()
    plain = make_trainer(tmp_path / "two", alpha=0.0)
    plain.train()
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(calibrated)[name], value)


@pytest.mark.parametrize("settings", [{"penalty": "margin"}, {"gate": "none"}])
def test_where_it_means_nothing_it_is_refused(tmp_path: Path, settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="alpha='calibrated' needs penalty='label_smoothing'"):
        make_args(tmp_path, alpha="calibrated", **settings)


def test_it_needs_a_calibration_split(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="alpha='calibrated' needs a calibration_dataset"):
        make_trainer(tmp_path, calibration=None, alpha="calibrated", gate="all")
