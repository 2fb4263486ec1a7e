from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck
from transformers.trainer_pt_utils import LabelSmoother

from cogcalib.losses import Penalty, cross_entropy, token_penalty
from cogcalib.losses.terms import entropy, focal, focal_slope

PENALTIES = [
    Penalty("label_smoothing"),
    Penalty("margin", margin=0.5),
    Penalty("margin", margin=0.5, margin_reduction="sum"),
    Penalty("entropy"),
    Penalty("entropy", entropy_floor=1.2),
    Penalty("focal"),
    Penalty("focal", gamma=1.5),
]
OPTION_IDS = torch.tensor([[3, 1, 5, 0], [-1, -1, -1, -1], [2, 4, -1, -1]])
TARGETS = torch.tensor([1, 6, 4])


def make_logits(n: int = 3, v: int = 7, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(n, v, generator=generator, dtype=torch.float64)


def on_options(penalty: Penalty) -> Penalty:
    return replace(penalty, support="options")


def naive(penalty: Penalty, scores: list[float], gold: int) -> float:
    """R of one token from its definition, one number at a time."""
    z = [math.exp(s) for s in scores]
    p = [value / sum(z) for value in z]
    if penalty.kind == "label_smoothing":
        return sum(-math.log(q) for q in p) / len(p) + math.log(p[gold])
    if penalty.kind == "margin":
        gaps = [max(0.0, max(scores) - s - penalty.margin) for s in scores]
        return sum(gaps) if penalty.margin_reduction == "sum" else sum(gaps) / len(gaps)
    if penalty.kind == "focal":
        return ((1 - p[gold]) ** penalty.gamma - 1) * -math.log(p[gold])
    h = -sum(q * math.log(q) for q in p)
    return -h if penalty.entropy_floor is None else max(0.0, penalty.entropy_floor - h)


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_penalty_over_vocabulary_is_its_definition(penalty: Penalty) -> None:
    logits = make_logits()
    expected = [
        naive(penalty, row.tolist(), int(y)) for row, y in zip(logits, TARGETS, strict=True)
    ]
    torch.testing.assert_close(
        token_penalty(penalty, logits, TARGETS), torch.tensor(expected, dtype=torch.float64)
    )


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_penalty_over_options_is_its_definition_among_them_and_zero_without(
    penalty: Penalty,
) -> None:
    logits = make_logits()
    expected = []
    for row, ids, target in zip(logits, OPTION_IDS, TARGETS, strict=True):
        chosen = [int(i) for i in ids if i >= 0]
        scores = [float(row[i]) for i in chosen]
        expected.append(naive(penalty, scores, chosen.index(int(target))) if chosen else 0.0)
    actual = token_penalty(on_options(penalty), logits, TARGETS, OPTION_IDS)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))
    assert actual[1] == 0


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_gradients_over_vocabulary_and_options(penalty: Penalty) -> None:
    logits = make_logits().requires_grad_()
    assert gradcheck(lambda z: token_penalty(penalty, z, TARGETS), [logits])
    options = on_options(penalty)
    assert gradcheck(lambda z: token_penalty(options, z, TARGETS, OPTION_IDS), [logits])
    assert gradcheck(lambda z: cross_entropy(z, TARGETS), [logits])


@given(alpha=st.floats(0, 1), seed=st.integers(0, 999), v=st.integers(2, 30))
def test_label_smoothing_is_that_of_torch_and_transformers(alpha: float, seed: int, v: int) -> None:
    logits = make_logits(5, v, seed).requires_grad_()
    targets = torch.randint(v, (5,), generator=torch.Generator().manual_seed(seed))
    smoothing = token_penalty(Penalty("label_smoothing"), logits, targets)
    ours = (cross_entropy(logits, targets) + alpha * smoothing).sum() / 5
    gradient = torch.autograd.grad(ours, logits, retain_graph=True)[0]

    exact = F.cross_entropy(logits, targets, label_smoothing=alpha)
    torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        gradient, torch.autograd.grad(exact, logits)[0], rtol=1e-12, atol=1e-12
    )
    smoother = LabelSmoother(epsilon=alpha)({"logits": logits}, targets)  # it sums in fp32
    torch.testing.assert_close(ours, smoother, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        gradient, torch.autograd.grad(smoother, logits)[0], rtol=1e-6, atol=1e-6
    )


@given(gamma=st.floats(1, 6), seed=st.integers(0, 999), scale=st.floats(0.1, 60))
def test_with_alpha_one_it_is_the_focal_loss(gamma: float, seed: int, scale: float) -> None:
    """``(1 - p)^gamma CE`` as its authors write it, in value and gradient."""
    logits = (scale * make_logits(5, 9, seed)).requires_grad_()
    targets = torch.randint(9, (5,), generator=torch.Generator().manual_seed(seed))
    penalty = token_penalty(Penalty("focal", gamma=gamma), logits, targets)
    ours = (cross_entropy(logits, targets) + penalty).sum()
    log_p = F.log_softmax(logits, 1).gather(1, targets[:, None]).squeeze(1)
    theirs = (-((1 - log_p.exp()) ** gamma) * log_p).sum()
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    (gradient,) = torch.autograd.grad(ours, logits)
    assert gradient.isfinite().all()
    (expected,) = torch.autograd.grad(theirs, logits)
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("gamma", [1.0, 1.5, 3.0, 5.0])
def test_slope_of_focal_is_its_derivative(gamma: float) -> None:
    ce = torch.tensor([0.0, 1e-12, 1e-3, 0.7, 4.0, 90.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(focal(ce, gamma).sum(), ce)
    torch.testing.assert_close(focal_slope(ce, gamma), slope, rtol=1e-12, atol=1e-12)
    assert slope[0] == -1  # what is certain is not pushed on: CE + R is flat there


def test_focal_over_options_is_the_focal_loss_among_them() -> None:
    logits = make_logits(1)
    ids, target = torch.tensor([[3, 1, 5, 0]]), torch.tensor([1])
    whole = cross_entropy(logits, target)
    among = cross_entropy(logits[:, [3, 1, 5, 0]], target)  # position 1 of the options as well
    penalty = token_penalty(Penalty("focal", "options", gamma=2.0), logits, target, ids)
    expected = (whole - among) + (1 - (-among).exp()) ** 2 * among
    torch.testing.assert_close(whole + penalty, expected)


@given(seed=st.integers(0, 999), scale=st.floats(0.1, 50))
def test_entropy_lies_between_zero_and_log_of_the_support(seed: int, scale: float) -> None:
    spread = entropy(scale * make_logits(4, 9, seed))
    assert (spread >= 0).all()
    assert (spread <= math.log(9) + 1e-12).all()


def test_entropy_penalty_falls_when_entropy_rises() -> None:
    sharp, flat = torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    penalty, target = Penalty("entropy"), torch.tensor([0])
    assert token_penalty(penalty, flat, target) < token_penalty(penalty, sharp, target)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_half_precision_is_accumulated_in_fp32(dtype: torch.dtype, penalty: Penalty) -> None:
    logits = make_logits(3, 512).to(dtype)
    for term in (
        cross_entropy(logits, TARGETS),
        token_penalty(penalty, logits, TARGETS),
        token_penalty(on_options(penalty), logits, TARGETS, OPTION_IDS),
    ):
        assert term.dtype == torch.float32
    torch.testing.assert_close(
        token_penalty(penalty, logits, TARGETS),
        token_penalty(penalty, logits.double(), TARGETS).float(),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_no_token_at_all_gives_an_empty_term_with_graph(penalty: Penalty) -> None:
    logits = torch.zeros(0, 7, requires_grad=True)
    none, ids = torch.zeros(0, dtype=torch.long), torch.zeros(0, 4, dtype=torch.long)
    for term in (
        token_penalty(penalty, logits, none),
        token_penalty(on_options(penalty), logits, none, ids),
    ):
        assert term.shape == (0,)
        term.sum().backward()
    assert logits.grad is not None


def test_tokens_without_options_get_no_gradient() -> None:
    logits = make_logits().requires_grad_()
    token_penalty(Penalty("entropy", "options"), logits, TARGETS, OPTION_IDS).sum().backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[1], torch.zeros(7, dtype=torch.float64))
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"kind": "hinge"}, "penalty"),
        ({"kind": "margin", "support": "letters"}, "support"),
        ({"kind": "margin", "margin": -1.0}, "margin"),
        ({"kind": "margin", "margin": math.nan}, "margin"),
        ({"kind": "margin", "margin_reduction": "max"}, "margin_reduction"),
        ({"kind": "entropy", "entropy_floor": 0.0}, "entropy_floor"),
        ({"kind": "focal", "gamma": 0.5}, "gamma must be a finite number >= 1"),
        ({"kind": "focal", "gamma": math.nan}, "gamma"),
    ],
)
def test_invalid_penalty_is_refused_by_name(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Penalty(**arguments)  # type: ignore[arg-type]


def test_options_without_option_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="option_ids"):
        token_penalty(Penalty("margin", "options"), make_logits(), TARGETS)
