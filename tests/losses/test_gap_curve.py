"""``alpha="gap"``: what the curve asks for, against its definition in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from fused_case import (
    ROW,
    Case,
    assert_same,
    fused,
    gradients,
    make_case,
    reference,
    reference_logits,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from cogcalib.losses import GapCurve, Gate, Penalty, token_penalty

fractions = st.floats(0, 1)
ks = st.integers(2, 6)


def alpha(a: float, q: float, k: int | None, *, gated: bool) -> float:
    curve = GapCurve((0.0,), (a,), (q,), gated)
    nll = torch.zeros(1, dtype=torch.float64)
    return float(curve.smoothing(nll, None if k is None else torch.tensor([k])))


@given(fractions, fractions, ks)
def test_it_is_the_formula(a: float, q: float, k: int) -> None:
    ungated = 0.0 if q <= 1 / k else np.clip((q - a) / (q - 1 / k), 0, 1)
    gated = 0.0 if q == 0 else np.clip((1 - a / q) * k / (k - 1), 0, 1)
    assert alpha(a, q, k, gated=False) == pytest.approx(ungated, abs=1e-9)
    assert alpha(a, q, k, gated=True) == pytest.approx(gated, abs=1e-9)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("k", [2, 4, 5])
def test_limits(k: int, gated: bool) -> None:
    for same in (0.0, 0.1, 1 / k, 0.6, 1.0):
        assert alpha(same, same, k, gated=gated) == 0
    assert alpha(1 / k, 1.0, k, gated=gated) == pytest.approx(1)
    assert alpha(0.0, 1.0, k, gated=gated) == 1  # below chance no smoothing goes
    assert alpha(0.9, 0.6, k, gated=gated) == 0  # better held out: nothing to take off


@given(st.floats(0, 1), ks)
def test_with_everything_remembered_the_target_is_the_accuracy(a: float, k: int) -> None:
    for gated in (False, True):
        e = alpha(a, 1.0, k, gated=gated)
        assert 1 - e + e / k == pytest.approx(max(a, 1 / k))


def test_between_its_places_it_is_linear_and_beyond_them_constant() -> None:
    curve = GapCurve((1.0, 3.0), (0.9, 0.5), (1.0, 1.0), gated=True)
    asked = torch.tensor([0.0, 1.0, 2.0, 3.0, 9.0], dtype=torch.float64)
    expected = torch.tensor([0.1, 0.1, 0.3, 0.5, 0.5], dtype=torch.float64)
    torch.testing.assert_close(curve.smoothing(asked), expected)


@given(fractions, fractions)
def test_over_a_vocabulary_both_forms_are_one(a: float, q: float) -> None:
    assert alpha(a, q, None, gated=False) == pytest.approx(alpha(a, q, None, gated=True))


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("n_options", [2, 4])
@pytest.mark.parametrize(("a", "q"), [(0.6, 1.0), (0.55, 0.8), (0.7, 0.7), (0.51, 0.9)])
def test_what_is_learnt_is_the_held_out_accuracy(
    a: float, q: float, n_options: int, gated: bool
) -> None:
    """Of a mass of examples with one confidence, q of them right, the expected loss is lowest where
    the confidence is a: in float64, by search."""
    e = alpha(a, q, n_options, gated=gated)
    ids, penalty = torch.arange(n_options)[None], Penalty("label_smoothing", "options")

    def objective(logit: float) -> float:
        scores = torch.zeros(1, n_options, dtype=torch.float64)
        scores[0, 0] = logit  # the model's own answer; the others are alike
        total = 0.0
        for gold, share in ((0, q), (1, 1 - q)):
            target = torch.tensor([gold])
            ce = -scores.log_softmax(1)[0, gold]
            smoothed = e if not gated or gold == 0 else 0.0
            total += share * float(ce + smoothed * token_penalty(penalty, scores, target, ids)[0])
        return total

    best = minimize_scalar(objective, bounds=(-9, 9), method="bounded", options={"xatol": 1e-9}).x
    assert math.exp(best) / (math.exp(best) + n_options - 1) == pytest.approx(a, abs=1e-6)


def test_it_goes_by_the_model_s_own_answer() -> None:
    curve = GapCurve((0.0, 1.0), (0.5, 0.9), (1.0, 0.9), gated=False)
    gold, own = torch.tensor([9.0, 0.0]), torch.tensor([0.0, 1.0])
    gate = Gate("all", curve=curve)
    torch.testing.assert_close(gate.weights(gold, own=own), torch.tensor([0.5, 0.0]))
    with pytest.raises(ValueError, match="own answers"):
        gate.weights(gold)


BENT = GapCurve((0.5, 2.0, 3.5), (0.8, 0.5, 0.3), (0.95, 0.9, 0.35), gated=False)


def weighed(case: Case, curve: GapCurve, support: str) -> Gate:
    k = torch.full((case.n_examples,), 4) if support == "options" else None
    return Gate("all", curve=curve, n_options=k)


@pytest.mark.parametrize("support", ["vocab", "options"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("budget", [ROW, 3 * ROW, None])
def test_fused_and_readable_loss_weigh_alike(
    support: str, reduction: str, budget: int | None
) -> None:
    case = make_case()
    penalty, gate = Penalty("label_smoothing", support), weighed(case, BENT, support)
    with torch.no_grad():
        logits = reference_logits(case.hidden, case.head)
        log_confidence = logits.log_softmax(1).amax(1)
    more = {"alpha": 1.0, "nll_reduction": reduction}
    theirs = reference(case, penalty, gate, log_confidence=log_confidence, **more)
    assert len(set(theirs.weights.tolist())) >= 3
    assert_same(case, fused(case, penalty, gate, tile_bytes=budget, **more), theirs)


@pytest.mark.parametrize("support", ["vocab", "options"])
def test_a_level_curve_is_a_constant_alpha(support: str) -> None:
    case = make_case()
    level = GapCurve((0.0,), (0.6,), (0.9,), gated=True)
    e = alpha(0.6, 0.9, 4 if support == "options" else None, gated=True)
    penalty = Penalty("label_smoothing", support)
    constant = fused(case, penalty, Gate("all"), alpha=e)
    ours = fused(case, penalty, weighed(case, level, support), alpha=1.0)
    torch.testing.assert_close(ours.loss, constant.loss)
    expected = gradients(case, constant.loss)
    for name, gradient in gradients(case, ours.loss).items():
        torch.testing.assert_close(gradient, expected[name])
