from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cogcalib.losses import Gate, cogcalib_loss, example_nll

EXAMPLE = torch.tensor([0, 0, 1, 3, 3, 3])
CE = torch.tensor([1.0, 3.0, 0.5, 0.2, 0.4, 0.6], dtype=torch.float64)
R = torch.tensor([2.0, 1.0, 4.0, 3.0, 5.0, 7.0], dtype=torch.float64)
OPEN = Gate("all", 0.0)


def test_nll_is_the_mean_or_sum_over_the_answer() -> None:
    assert example_nll(CE, EXAMPLE, 4).tolist() == pytest.approx([2.0, 0.5, 0.0, 0.4])
    assert example_nll(CE, EXAMPLE, 4, "sum").tolist() == pytest.approx([4.0, 0.5, 0.0, 1.2])


def test_loss_is_its_formula_with_the_nll_gate() -> None:
    gate = Gate("nll", 0.5)
    parts = cogcalib_loss(CE, R, EXAMPLE, 4, alpha=0.1, gate=gate, num_items_in_batch=10)
    assert parts.weights.tolist() == [0, 1, 1, 1]
    assert parts.loss.item() == pytest.approx((5.7 + 0.1 * (4 + 3 + 5 + 7)) / 10)
    assert parts.ce.item() == pytest.approx(0.57)
    assert parts.penalty.item() == pytest.approx(1.9)


@given(
    ces=st.lists(st.floats(0, 20), min_size=2, max_size=12),
    alpha=st.floats(0, 2),
    cut=st.integers(1, 11),
)
def test_micro_batches_add_up_to_the_whole_batch(ces: list[float], alpha: float, cut: int) -> None:
    ce = torch.tensor(ces, dtype=torch.float64)
    example = torch.arange(len(ce)) // 2
    cut = min(2 * cut, len(ce))
    gate = Gate("nll", 5.0)
    shared: dict[str, Any] = {"alpha": alpha, "gate": gate, "num_items_in_batch": len(ce)}
    whole = cogcalib_loss(ce, ce**2, example, len(ce), **shared).loss
    first = cogcalib_loss(ce[:cut], ce[:cut] ** 2, example[:cut], len(ce), **shared).loss
    second = cogcalib_loss(ce[cut:], ce[cut:] ** 2, example[cut:], len(ce), **shared).loss
    torch.testing.assert_close(first + second, whole)


def test_no_example_known_is_plain_cross_entropy_to_the_bit() -> None:
    shut = Gate("nll", -torch.inf)
    parts = cogcalib_loss(CE, R, EXAMPLE, 4, alpha=0.7, gate=shut)
    assert torch.equal(parts.loss, CE.mean())


def test_all_known_is_uniform_regularisation_to_the_bit() -> None:
    known = Gate("nll", torch.inf)
    ours = cogcalib_loss(CE, R, EXAMPLE, 4, alpha=0.7, gate=known).loss
    uniform = cogcalib_loss(CE, R, EXAMPLE, 4, alpha=0.7, gate=OPEN).loss
    assert torch.equal(ours, uniform)


def test_gate_takes_no_gradient() -> None:
    ce = CE.clone().requires_grad_()
    gate = Gate("soft", 0.5, 0.3)
    parts = cogcalib_loss(ce, R, EXAMPLE, 4, alpha=0.7, gate=gate, num_items_in_batch=1)
    parts.loss.backward()
    assert ce.grad is not None
    assert torch.equal(ce.grad, torch.ones_like(ce))
    assert not parts.weights.requires_grad


def test_batch_without_supervised_token_is_a_finite_zero_with_graph() -> None:
    ce = torch.zeros(0, requires_grad=True)
    none = torch.zeros(0, dtype=torch.long)
    for items in (None, 0, torch.tensor(0)):
        parts = cogcalib_loss(ce, ce, none, 2, alpha=0.1, gate=OPEN, num_items_in_batch=items)
        assert parts.loss.item() == 0
        parts.loss.backward()
