from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from fused_case import (
    BUDGETS,
    HEADS,
    OPEN,
    PARTS,
    PENALTIES,
    ROW,
    SOFT,
    Case,
    assert_same,
    fused,
    gradients,
    make_case,
    reference,
    reference_logits,
    some_open,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cogcalib.losses import Gate, Penalty, cross_entropy


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=BUDGETS.keys())
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_value_and_gradients_are_the_reference(
    penalty: Penalty, head: str, budget: int | None
) -> None:
    case = make_case(head)
    gate = some_open(case)
    theirs = reference(case, penalty, gate, alpha=0.3)
    assert 0 < theirs.weights.sum() < case.n_examples
    assert_same(case, fused(case, penalty, gate, alpha=0.3, tile_bytes=budget), theirs)


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_without_gradient_the_values_stay(penalty: Penalty) -> None:
    case = make_case()
    theirs = reference(case, penalty, SOFT, alpha=0.3)
    with torch.no_grad():
        ours = fused(case, penalty, SOFT, alpha=0.3, tile_bytes=4 * ROW)
    assert not ours.loss.requires_grad
    for field in PARTS:
        torch.testing.assert_close(getattr(ours, field), getattr(theirs, field).detach())


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_soft_gate_shared_denominator_and_either_nll(penalty: Penalty, reduction: str) -> None:
    case = make_case()
    more: dict[str, Any] = {"alpha": 0.8, "nll_reduction": reduction}
    for items in (29, torch.tensor(29)):
        theirs = reference(case, penalty, SOFT, num_items_in_batch=items, **more)
        ours = fused(case, penalty, SOFT, num_items_in_batch=items, tile_bytes=4 * ROW, **more)
        assert_same(case, ours, theirs)


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_alpha_zero_and_shut_gate_are_cross_entropy_to_the_bit(penalty: Penalty) -> None:
    case = make_case("plain")
    shut = Gate("nll", -torch.inf)
    without = fused(case, penalty, shut, alpha=0.7)
    logits = reference_logits(case.hidden, case.head)
    expected = gradients(case, F.cross_entropy(logits, case.targets))
    for loss in (without.loss, fused(case, penalty, OPEN, alpha=0.0).loss):
        assert torch.equal(loss, without.ce)
        for name, gradient in gradients(case, loss).items():
            torch.testing.assert_close(gradient, expected[name])
    assert without.penalty == 0
    torch.testing.assert_close(
        fused(case, penalty, OPEN, alpha=0.0).penalty,
        reference(case, penalty, OPEN, alpha=0.0).penalty,
    )


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
@pytest.mark.parametrize("budget", [ROW, 4 * ROW, None])
def test_gate_sees_consecutive_examples_and_its_last_answer_counts(
    penalty: Penalty, budget: int | None
) -> None:
    case = make_case(counts=(0, 2, 5, 1, 0, 3, 0))
    seen: dict[tuple[int, int], Tensor] = {}

    class Recorded(Gate):
        def weights(self, nll: Tensor, units: slice = slice(None), own: Any = None) -> Tensor:
            assert len(nll) == units.stop - units.start
            seen[units.start, units.stop] = nll
            return torch.full_like(nll, float(units.start == 0))

    parts = fused(case, penalty, Recorded("all"), alpha=0.1, tile_bytes=budget)
    covered = [index for start, stop in seen for index in range(start, stop)]
    assert covered == list(range(7))
    assert torch.equal(torch.cat(list(seen.values())), parts.nll)
    first = next(stop for _, stop in seen)
    assert parts.weights.tolist() == [1.0] * first + [0.0] * (7 - first)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_gate_that_changes_its_mind_within_an_example(
    penalty: Penalty, inverted: bool, reduction: str
) -> None:
    case = make_case(counts=(1, 12, 2))
    ce = cross_entropy(reference_logits(case.hidden, case.head), case.targets)[1:13].detach()
    order = ce.sort().indices + 1  # from surely known to unknown
    rows = torch.cat([torch.tensor([0]), order, torch.tensor([13, 14])])
    head = replace(case.head, low_rank_input=case.tensors["low_rank_input"].detach()[rows])
    case = replace(
        case,
        hidden=case.hidden.detach()[rows].requires_grad_(),
        head=replace(head, low_rank_input=head.low_rank_input.requires_grad_()),  # type: ignore[union-attr]
        targets=case.targets[rows],
        option_ids=case.option_ids[rows],
    )
    scale = 12 if reduction == "sum" else 1
    threshold = float((ce.sort().values[:8].mean() + ce.mean()) / 2) * scale
    asked = []

    class Recorded(Gate):
        def weights(self, nll: Tensor, units: slice = slice(None), own: Any = None) -> Tensor:
            answer = super().weights(nll, units, own)
            if units == slice(1, 2):
                asked.append(float(answer))
            return answer

    gate = Recorded("inverted" if inverted else "nll", threshold)
    more: dict[str, Any] = {"alpha": 0.4, "nll_reduction": reduction}
    ours = fused(case, penalty, gate, tile_bytes=4 * ROW, **more)
    assert_same(case, ours, reference(case, penalty, gate, **more))
    if penalty.support == "vocab":  # otherwise no tile waits for the gate
        assert asked == ([0, 0, 1] if inverted else [1, 1, 0])


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_tied_embedding_gets_both_gradients(penalty: Penalty) -> None:
    case = make_case("plain")
    words = torch.arange(len(case.targets)) % 37
    weight = case.head.weight

    def tied() -> Case:
        return replace(case, hidden=torch.tanh(F.embedding(words, weight)))

    gate = some_open(tied())
    (expected,) = torch.autograd.grad(reference(tied(), penalty, gate, alpha=0.3).loss, [weight])
    (actual,) = torch.autograd.grad(fused(tied(), penalty, gate, alpha=0.3).loss, [weight])
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_micro_batches_add_up_scaled_by_the_incoming_gradient(penalty: Penalty) -> None:
    case = make_case(counts=(2, 3, 4, 2))
    (3 * reference(case, penalty, SOFT, alpha=0.3).loss).backward()
    expected = {name: tensor.grad for name, tensor in case.tensors.items()}
    for tensor in case.tensors.values():
        tensor.grad = None
    for tokens, first in ((slice(0, 5), 0), (slice(5, 11), 2)):
        head = replace(case.head, low_rank_input=case.tensors["low_rank_input"][tokens])
        part = Case(
            hidden=case.hidden[tokens],
            head=head,
            targets=case.targets[tokens],
            example=case.example[tokens] - first,
            n_examples=2,
            option_ids=case.option_ids[tokens],
        )
        (3 * fused(part, penalty, SOFT, alpha=0.3, num_items_in_batch=11).loss).backward()
    for name, tensor in case.tensors.items():
        torch.testing.assert_close(tensor.grad, expected[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_gradients_are_the_slopes_of_the_value(penalty: Penalty) -> None:
    case = make_case(counts=(1, 4))
    slopes = gradients(case, fused(case, penalty, OPEN, alpha=0.5, tile_bytes=2 * ROW).loss)
    generator = torch.Generator().manual_seed(1)
    for name, tensor in case.tensors.items():
        step = 1e-6 * torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                tensor.add_(step, alpha=sign)
                values.append(fused(case, penalty, OPEN, alpha=0.5).loss)
                tensor.sub_(step, alpha=sign)
        expected = (slopes[name] * step).sum()
        torch.testing.assert_close((values[0] - values[1]) / 2, expected, rtol=1e-6, atol=1e-14)


@pytest.mark.parametrize("support", ["vocab", "options"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_equal_maxima_share_the_margin_gradient(support: str, reduction: str) -> None:
    case = make_case("plain", counts=(2, 1), width=4, vocabulary=9)
    with torch.no_grad():
        case.head.weight[[1, 4, 6]] = case.head.weight[1].clone()
        case.hidden.copy_(case.head.weight[1] * torch.tensor([[1.0], [2.0], [0.5]]))
    case.option_ids[:] = torch.tensor([1, 4, 2, 8])
    penalty = Penalty("margin", support, margin=0.3, margin_reduction=reduction)  # type: ignore[arg-type]
    logits = reference_logits(case.hidden, case.head)
    assert ((logits == logits.amax(1, keepdim=True)).sum(1) == 3).all()
    theirs = reference(case, penalty, OPEN, alpha=0.9)
    assert_same(case, fused(case, penalty, OPEN, alpha=0.9), theirs)


@given(
    counts=st.lists(st.integers(0, 6), max_size=6).map(tuple),
    width=st.integers(1, 9),
    vocabulary=st.integers(4, 300),
    rows=st.integers(1, 12),
    penalty=st.sampled_from(PENALTIES),
    head=st.sampled_from(HEADS),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=60, deadline=None)
def test_any_shape_is_the_reference(
    counts: tuple[int, ...],
    width: int,
    vocabulary: int,
    rows: int,
    penalty: Penalty,
    head: str,
    seed: int,
) -> None:
    case = make_case(head, counts, width, vocabulary, seed=seed)
    gate = some_open(case)
    theirs = reference(case, penalty, gate, alpha=0.3)
    ours = fused(case, penalty, gate, alpha=0.3, tile_bytes=rows * 8 * vocabulary)
    assert_same(case, ours, theirs, rtol=1e-9, atol=1e-10)
