"""Products of halves in float32: tried once on a device, and what happens where they fail.

The processor stands in for a GPU; its `out_dtype` is a function of this test.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from cogcalib.losses import projection
from cogcalib.losses.projection import accumulate_product, product_into, sums_wide

CPU = torch.device("cpu")
Stand = Callable[..., Tensor]


@pytest.fixture(autouse=True)
def _tried_anew() -> Iterator[None]:
    projection._out_dtype_works.cache_clear()
    yield
    projection._out_dtype_works.cache_clear()


def stand_in(
    monkeypatch: pytest.MonkeyPatch, product: Callable[[Tensor, Tensor], Tensor]
) -> list[str]:
    """Give the processor an `out_dtype` whose products are `product`; returns what was called."""
    called: list[str] = []
    mm = torch.mm

    def mm_out(left: Tensor, right: Tensor, *, out: Tensor, out_dtype: Any = None) -> Tensor:
        if out_dtype is None:
            return mm(left, right, out=out)
        called.append("mm")
        return out.copy_(product(left, right))

    def addmm(
        total: Tensor, left: Tensor, right: Tensor, *, beta: float, out_dtype: Any, out: Tensor
    ) -> Tensor:
        called.append("addmm")
        return out.copy_(beta * total + product(left, right))

    monkeypatch.setattr(torch, "mm", mm_out)
    monkeypatch.setattr(torch, "addmm", addmm)
    monkeypatch.setattr(projection, "sums_wide", projection._out_dtype_works)
    return called


def exact(left: Tensor, right: Tensor) -> Tensor:
    return (left.double() @ right.double()).float()


def rounded(left: Tensor, right: Tensor) -> Tensor:
    return left @ right


def refused(left: Tensor, right: Tensor) -> Tensor:
    raise RuntimeError("not implemented for sm_70\nCUDA kernel errors might be reported elsewhere")


def factors() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(8, 32).bfloat16(), torch.randn(32, 16).bfloat16()


def test_a_processor_is_not_asked() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not sums_wide(CPU, torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_where_it_works_it_is_taken(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    called = stand_in(monkeypatch, exact)
    left, right = (each.to(dtype) for each in factors())
    out = torch.empty(8, 16)
    product_into(out, left, right)
    accumulate_product(out, left, right)
    assert called == ["mm", "addmm", "mm", "addmm"]  # the trial, then the work
    torch.testing.assert_close(out, 2 * exact(left, right))


@pytest.mark.parametrize(
    ("product", "said"),
    [(rounded, "apart from those in float64"), (refused, "not implemented for sm_70. Logits")],
)
def test_where_it_does_not_there_is_one_warning(
    product: Stand, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = stand_in(monkeypatch, product)
    left, right = factors()
    out = torch.empty(8, 16)

    def work() -> None:
        for _ in range(3):
            product_into(out, left, right)
            accumulate_product(out, left, right)

    with pytest.warns(UserWarning, match=said) as warned:
        work()
    assert len(warned) == 1
    assert set(called) <= {"mm", "addmm"}
    assert len(called) <= 2  # the trial alone
    torch.testing.assert_close(out, (left @ right).float() + exact(left, right))


def test_a_wrong_sum_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product that is right where it stands alone, added to what was there before."""
    stand_in(monkeypatch, exact)
    addmm = torch.addmm

    def forgets(total: Tensor, *factors: Tensor, **how: Any) -> Tensor:
        return addmm(torch.zeros_like(total), *factors, **how)

    monkeypatch.setattr(torch, "addmm", forgets)
    with pytest.warns(UserWarning, match="does not work on cpu"):
        assert not projection._out_dtype_works(CPU, torch.bfloat16)
