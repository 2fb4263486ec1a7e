from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from fused_case import (
    BUDGETS,
    OPEN,
    PENALTIES,
    ROW,
    SOFT,
    Case,
    fused,
    gradients,
    make_case,
    reference,
    reference_logits,
    some_open,
)
from torch import Tensor

from cogcalib.losses import (
    NO_OPTION,
    LinearHead,
    Penalty,
    cross_entropy,
    fused_statistics,
)
from cogcalib.losses.fused_pass import aligned_runs
from cogcalib.losses.projection import HeadGradients, Projection
from cogcalib.losses.terms import entropy
from cogcalib.losses.tiles import first_maximum


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS.keys())
def test_statistics_are_the_reference_whatever_the_tiles(budget: int | None) -> None:
    case = make_case()
    logits = reference_logits(case.hidden, case.head).detach()
    found = fused_statistics(
        case.hidden, case.head, case.targets, case.option_ids, tile_bytes=budget
    )
    torch.testing.assert_close(found.ce, cross_entropy(logits, case.targets))
    torch.testing.assert_close(found.entropy, entropy(logits))
    torch.testing.assert_close(found.target_logit, logits.gather(1, case.targets[:, None])[:, 0])
    assert torch.equal(found.correct, logits.argmax(1) == case.targets)
    absent = case.option_ids == NO_OPTION
    scores = logits.gather(1, case.option_ids.clamp(min=0)).masked_fill(absent, -torch.inf)
    torch.testing.assert_close(found.option_scores, scores)
    assert not found.ce.requires_grad


def test_per_token_fields_are_the_statistics() -> None:
    case = make_case(counts=(3, 9, 4))
    case.targets[5] = reference_logits(case.hidden, case.head)[5].argmax()
    found = fused_statistics(case.hidden, case.head, case.targets)
    assert 0 < found.correct.sum() < len(case.targets)
    for penalty in PENALTIES:
        parts = fused(case, penalty, some_open(case), alpha=0.2, tile_bytes=4 * ROW)
        torch.testing.assert_close(parts.token_ce, found.ce)
        torch.testing.assert_close(parts.entropy, found.entropy)
        assert torch.equal(parts.correct, found.correct)
        assert found.option_scores is None


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_only_the_gradients_needed_are_computed(penalty: Penalty) -> None:
    case = make_case()
    everything = gradients(case, fused(case, penalty, SOFT, alpha=0.3).loss)
    for wanted in case.tensors:
        for name, tensor in case.tensors.items():
            tensor.requires_grad_(name == wanted)
        loss = fused(case, penalty, SOFT, alpha=0.3, tile_bytes=4 * ROW).loss
        (gradient,) = torch.autograd.grad(loss, [case.tensors[wanted]])
        torch.testing.assert_close(gradient, everything[wanted], rtol=1e-10, atol=1e-12)


def test_frozen_head_allocates_no_gradient_for_it() -> None:
    case = make_case()
    projection = Projection(case.hidden, case.head)
    frozen = HeadGradients(projection, (True, False, False, False, False))
    assert [total is None for total in frozen.sums] == [False, True, True, True, True]


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_no_supervised_token_is_a_finite_zero_with_graph(penalty: Penalty) -> None:
    case = make_case(counts=(0, 0))
    for items in (None, 0, torch.tensor(0), 7):
        parts = fused(case, penalty, OPEN, alpha=0.1, num_items_in_batch=items)
        assert parts.loss.item() == 0
        assert parts.nll.tolist() == [0, 0]
        for gradient in gradients(case, parts.loss).values():
            assert gradient.count_nonzero() == 0
    assert fused(make_case(counts=()), penalty, OPEN, alpha=0.1).nll.shape == (0,)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_half_precision_is_no_worse_than_the_reference(
    penalty: Penalty, dtype: torch.dtype
) -> None:
    half = make_case(counts=(5, 40, 3), width=64, vocabulary=500, dtype=dtype)
    with torch.no_grad():
        half.head.weight.mul_(0.3)
    exact = make_case(counts=(5, 40, 3), width=64, vocabulary=500)
    with torch.no_grad():
        for name, tensor in exact.tensors.items():
            tensor.copy_(half.tensors[name])
    truth = gradients(exact, reference(exact, penalty, OPEN, alpha=0.3).loss)
    theirs = gradients(half, reference(half, penalty, OPEN, alpha=0.3).loss)
    parts = fused(half, penalty, OPEN, alpha=0.3, tile_bytes=4 * 500 * 16)
    assert parts.loss.dtype == torch.float32
    for name, actual in gradients(half, parts.loss).items():
        assert actual.dtype == dtype
        error = (actual.double() - truth[name]).norm()
        # A quarter on top: both errors are samples of the same rounding.
        assert error <= 1.25 * (theirs[name].double() - truth[name]).norm(), name


def test_hidden_states_and_weight_of_different_dtypes() -> None:
    penalty = PENALTIES[0]
    for hidden, weight in ((torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)):
        case = make_case("bias")
        mixed = Case(
            case.hidden.detach().to(hidden).requires_grad_(),
            LinearHead(case.head.weight.detach().to(weight).requires_grad_(), case.head.bias),
            case.targets,
            case.example,
            case.n_examples,
            case.option_ids,
        )
        same = Case(
            mixed.hidden.detach().float().requires_grad_(),
            LinearHead(mixed.head.weight.detach().float().requires_grad_(), case.head.bias),
            case.targets,
            case.example,
            case.n_examples,
            case.option_ids,
        )
        ours = fused(mixed, penalty, OPEN, alpha=0.3)
        theirs = fused(same, penalty, OPEN, alpha=0.3)
        torch.testing.assert_close(ours.loss, theirs.loss)
        expected = gradients(same, theirs.loss)
        for name, actual in gradients(mixed, ours.loss).items():
            assert actual.dtype == mixed.tensors[name].dtype
            torch.testing.assert_close(actual, expected[name].to(actual))


def test_autocast_projects_in_its_dtype_and_sums_in_single_precision() -> None:
    case = make_case(width=16, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = fused(case, PENALTIES[1], OPEN, alpha=0.3)
        found = fused_statistics(case.hidden, case.head, case.targets)
    assert parts.loss.dtype == torch.float32
    assert torch.equal(found.ce, parts.token_ce)
    exact = fused(case, PENALTIES[1], OPEN, alpha=0.3)
    assert not torch.equal(parts.loss, exact.loss)
    torch.testing.assert_close(parts.loss, exact.loss, rtol=0.02, atol=0)
    for gradient in gradients(case, parts.loss).values():
        assert gradient.dtype == torch.float32


def test_gradients_are_handed_out_once() -> None:
    case = make_case()
    loss = fused(case, PENALTIES[0], OPEN, alpha=0.1).loss
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="hands out its gradients once"):
        loss.backward()


def test_double_backward_is_refused() -> None:
    case = make_case()
    loss = fused(case, PENALTIES[0], OPEN, alpha=0.1).loss
    with pytest.raises(RuntimeError, match="create_graph=True"):
        torch.autograd.grad(loss, [case.hidden], create_graph=True)


def test_first_maximum_is_argmax_and_knows_of_equals() -> None:
    generator = torch.Generator().manual_seed(0)
    for vocabulary in (1, 5, 255, 256, 257, 512, 1000):
        for values in (5, vocabulary, 10 * vocabulary):
            scores = torch.randint(values, (40, vocabulary), generator=generator).double()
            found, tied = first_maximum(scores)
            assert torch.equal(found, scores.argmax(1))
            equals = (scores == scores.amax(1, keepdim=True)).sum(1)
            assert torch.equal(tied, equals > 1)


def test_runs_hold_whole_examples_up_to_the_budget() -> None:
    runs = list(aligned_runs([2, 0, 5, 1, 0, 9, 0, 0, 3], 6))
    assert [(run.start, run.stop) for run, _ in runs] == [(0, 2), (2, 5), (5, 6), (6, 9)]
    assert [(tokens.start, tokens.stop) for _, tokens in runs] == [
        (0, 2),
        (2, 8),
        (8, 17),
        (17, 20),
    ]
    assert list(aligned_runs([], 6)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": torch.full((11,), 37)}, r"targets must be token ids in \[0, 37\)"),
        ({"targets": torch.full((11,), -100)}, "targets must be token ids"),
        ({"targets": torch.zeros(10, dtype=torch.long)}, "targets must be .N. with N=11"),
        ({"hidden": torch.zeros(11, 8)}, "hidden must be .N, H. with H=7"),
        ({"hidden": torch.zeros(10, 7)}, "targets must be .N. with N=10"),
        ({"example": torch.arange(11).flip(0)}, "example must be ascending"),
        ({"example": torch.arange(11)}, r"example must lie in \[0, 6\), got 0 to 10"),
        ({"example": torch.zeros(3, dtype=torch.long)}, "example must be .N. with N=11"),
        ({"option_ids": torch.zeros(3, 4, dtype=torch.long)}, "option_ids must be .N, K."),
    ],
)
def test_bad_input_is_named(change: dict[str, Tensor], message: str) -> None:
    case = replace(make_case(), **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        fused(case, PENALTIES[0], OPEN, alpha=0.1)


def test_bad_settings_are_named() -> None:
    case = make_case()
    with pytest.raises(ValueError, match="tile_bytes must be None or a number of bytes >= 1"):
        fused(case, PENALTIES[0], OPEN, alpha=0.1, tile_bytes=0)
    without: Any = replace(case, option_ids=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs option_ids"):
        fused(without, PENALTIES[-1], OPEN, alpha=0.1)
    u, a = torch.zeros(11, 3), torch.zeros(37, 3)
    weight = case.head.weight
    for arguments, message in (
        ({"weight": torch.zeros(37)}, r"head.weight must be \[V, H\]"),
        ({"weight": weight, "bias": torch.zeros(36)}, r"head.bias must be \[V\] with V=37"),
        ({"weight": weight, "softcap": 0.0}, "head.softcap must be None or a finite number > 0"),
        ({"weight": weight, "low_rank_input": u}, "come together or not"),
        (
            {"weight": weight, "low_rank_input": u, "low_rank_weight": a[:36]},
            "low_rank_weight .V, r. with V=37",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            LinearHead(**arguments)  # type: ignore[arg-type]
    head = LinearHead(weight, low_rank_input=u[:5], low_rank_weight=a)
    with pytest.raises(ValueError, match="low_rank_input must have N=11 rows, got 5"):
        fused(replace(case, head=head), PENALTIES[0], OPEN, alpha=0.1)
