"""The experimental compiled tiles: the same numbers as the reference, eagerly and compiled."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fused_case import (
    HEADS,
    PENALTIES,
    ROW,
    SOFT,
    assert_same,
    fused,
    make_case,
    reference,
    reference_logits,
    some_open,
)

from cogcalib.losses import Penalty, compiled, token_statistics

FIELDS = ("token_ce", "entropy", "correct", "log_confidence")


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions as they are, so that every case can be tried without compiling it."""
    monkeypatch.setattr(compiled, "compiled", lambda function: function)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("budget", [3 * ROW, None])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_functions_give_the_reference(penalty: Penalty, head: str, budget: int | None) -> None:
    case = make_case(head)
    gate = some_open(case)
    theirs = reference(case, penalty, gate, alpha=0.3)
    ours = fused(case, penalty, gate, alpha=0.3, tile_bytes=budget, compiled=True)
    assert_same(case, ours, theirs)
    with torch.no_grad():
        found = token_statistics(reference_logits(case.hidden, case.head), case.targets)
    eagerly = fused(case, penalty, gate, alpha=0.3, tile_bytes=budget)
    for field, expected in zip(
        FIELDS, (found.ce, found.entropy, found.correct, found.log_confidence), strict=True
    ):
        torch.testing.assert_close(getattr(ours, field), expected)
    torch.testing.assert_close(
        ours.weights[case.example] * ours.token_penalty,
        eagerly.weights[case.example] * eagerly.token_penalty,
    )


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_soft_gate_on_examples_longer_than_a_tile(penalty: Penalty) -> None:
    case = make_case(counts=(1, 12, 0, 2))
    for reduction in ("mean", "sum"):
        more: dict[str, Any] = {"alpha": 0.8, "nll_reduction": reduction, "num_items_in_batch": 29}
        ours = fused(case, penalty, SOFT, tile_bytes=4 * ROW, compiled=True, **more)
        assert_same(case, ours, reference(case, penalty, SOFT, **more))


@pytest.mark.slow
# torch 2.13 imports something of its own that it calls deprecated.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("kind", ["margin", "entropy"])
def test_inductor_gives_the_reference(kind: Any) -> None:
    torch.compiler.reset()
    compiled.compiled.cache_clear()
    penalty = Penalty(kind, margin=0.5)
    case = make_case(counts=(3, 12, 0, 2), vocabulary=517)
    gate = some_open(case)
    ours = fused(case, penalty, gate, alpha=0.3, tile_bytes=6 * 8 * 517, compiled=True)
    assert_same(case, ours, reference(case, penalty, gate, alpha=0.3))
    assert compiled.compiled.cache_info().currsize == 2
