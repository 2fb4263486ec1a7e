from __future__ import annotations

import math

import pytest
import torch

from cogcalib.losses import gate_weights

NLL = torch.tensor([0.1, 0.5, 0.9])


def test_each_gate() -> None:
    assert gate_weights(NLL, 0.5, "nll").tolist() == [1, 1, 0]
    assert gate_weights(NLL, 0.5, "inverted").tolist() == [0, 0, 1]
    assert gate_weights(NLL, 0.5, "all").tolist() == [1, 1, 1]
    assert gate_weights(NLL, 0.5, "none").tolist() == [0, 0, 0]
    known = torch.tensor([False, True, False])
    assert gate_weights(NLL, 0.5, "oracle", known=known).tolist() == [0, 1, 0]
    soft = gate_weights(NLL, 0.5, "soft", temperature=0.2)
    torch.testing.assert_close(soft, torch.sigmoid(torch.tensor([2.0, 0.0, -2.0])))


@pytest.mark.parametrize("gate", ["nll", "soft"])
def test_infinite_thresholds_open_or_close_the_gate_for_all(gate: str) -> None:
    assert gate_weights(NLL, math.inf, gate).tolist() == [1, 1, 1]  # type: ignore[arg-type]
    assert gate_weights(NLL, -math.inf, gate).tolist() == [0, 0, 0]  # type: ignore[arg-type]


def test_inverted_gate_is_the_complement_at_infinite_thresholds() -> None:
    assert gate_weights(NLL, math.inf, "inverted").tolist() == [0, 0, 0]
    assert gate_weights(NLL, -math.inf, "inverted").tolist() == [1, 1, 1]


def test_soft_gate_approaches_the_hard_one() -> None:
    hard = gate_weights(NLL, 0.4, "nll")
    torch.testing.assert_close(gate_weights(NLL, 0.4, "soft", temperature=1e-4), hard)


def test_random_gate_opens_at_its_rate_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    many = torch.zeros(20_000)
    draws = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    weights = gate_weights(many, 0.0, "random", draws=draws, rate=0.3)
    assert set(weights.tolist()) == {0.0, 1.0}
    assert weights.mean().item() == pytest.approx(0.3, abs=0.015)
    assert torch.equal(torch.get_rng_state(), before)


def test_random_gate_at_rate_zero_and_one() -> None:
    draws = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    many = torch.zeros(1000)
    assert gate_weights(many, 0.0, "random", draws=draws, rate=0.0).sum() == 0
    assert gate_weights(many, 0.0, "random", draws=draws, rate=1.0).sum() == 1000


@pytest.mark.parametrize(
    ("gate", "arguments", "named"),
    [
        ("oracle", {}, "known"),
        ("random", {"rate": 0.5}, "draws"),
        ("random", {"draws": torch.zeros(4), "rate": 1.5}, "rate"),
        ("soft", {"temperature": 0.0}, "temperature"),
        ("entropy", {}, "gate"),
    ],
)
def test_what_a_gate_lacks_is_named(gate: str, arguments: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        gate_weights(NLL, 0.5, gate, **arguments)  # type: ignore[arg-type]
