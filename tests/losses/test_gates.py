from __future__ import annotations

import math

import pytest
import torch

from cogcalib.losses import GATES, GapCurve, Gate, GateKind

NLL = torch.tensor([0.1, 0.5, 0.9])


def test_each_gate() -> None:
    assert Gate("nll", 0.5).weights(NLL).tolist() == [1, 1, 0]
    assert Gate("inverted", 0.5).weights(NLL).tolist() == [0, 0, 1]
    assert Gate("all", 0.5).weights(NLL).tolist() == [1, 1, 1]
    assert Gate("none", 0.5).weights(NLL).tolist() == [0, 0, 0]
    known = torch.tensor([False, True, False])
    assert Gate("oracle", 0.5, known=known).weights(NLL).tolist() == [0, 1, 0]
    soft = Gate("soft", 0.5, temperature=0.2).weights(NLL)
    torch.testing.assert_close(soft, torch.sigmoid(torch.tensor([2.0, 0.0, -2.0])))


@pytest.mark.parametrize("gate", ["nll", "soft"])
def test_infinite_thresholds_open_or_close_the_gate_for_all(gate: str) -> None:
    assert Gate(gate, math.inf, 1.0).weights(NLL).tolist() == [1, 1, 1]  # type: ignore[arg-type]
    assert Gate(gate, -math.inf, 1.0).weights(NLL).tolist() == [0, 0, 0]  # type: ignore[arg-type]


def test_inverted_gate_is_the_complement_at_infinite_thresholds() -> None:
    assert Gate("inverted", math.inf).weights(NLL).tolist() == [0, 0, 0]
    assert Gate("inverted", -math.inf).weights(NLL).tolist() == [1, 1, 1]


def test_soft_gate_approaches_the_hard_one() -> None:
    hard = Gate("nll", 0.4).weights(NLL)
    torch.testing.assert_close(Gate("soft", 0.4, temperature=1e-4).weights(NLL), hard)


def test_random_gate_opens_at_its_rate_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    many = torch.zeros(20_000)
    draws = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    weights = Gate("random", 0.0, draws=draws, rate=0.3).weights(many)
    assert set(weights.tolist()) == {0.0, 1.0}
    assert weights.mean().item() == pytest.approx(0.3, abs=0.015)
    assert torch.equal(torch.get_rng_state(), before)


def test_random_gate_at_rate_zero_and_one() -> None:
    draws = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    many = torch.zeros(1000)
    assert Gate("random", 0.0, draws=draws, rate=0.0).weights(many).sum() == 0
    assert Gate("random", 0.0, draws=draws, rate=1.0).weights(many).sum() == 1000


@pytest.mark.parametrize(
    ("gate", "arguments", "named"),
    [
        ("oracle", {}, "known"),
        ("prior", {}, "prior"),
        ("random", {"rate": 0.5}, "draws"),
        ("random", {"draws": torch.zeros(4), "rate": 1.5}, "rate"),
        ("soft", {"temperature": 0.0}, "temperature"),
        ("entropy", {}, "gate"),
    ],
)
def test_what_a_gate_lacks_is_named(gate: str, arguments: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Gate(gate, 0.5, **arguments).weights(NLL)  # type: ignore[arg-type]


@pytest.mark.parametrize("units", [slice(0, 1), slice(1, 3), slice(3, 4)])
@pytest.mark.parametrize("kind", GATES)
def test_a_run_of_units_is_weighed_as_in_the_whole_batch(kind: GateKind, units: slice) -> None:
    nll = torch.tensor([0.1, 0.9, 0.4, 0.7], dtype=torch.float64)
    gate = Gate(
        kind,
        threshold=0.5,
        temperature=0.3,
        rate=0.5,
        draws=torch.tensor([0.9, 0.1, 0.6, 0.3]),
        known=torch.tensor([False, True, True, False]),
        prior=torch.tensor([-1, 1, 0, -1]),
        curve=GapCurve((0.0, 1.0), (0.9, 0.2), (1.0, 0.8), gated=True),
        n_options=torch.tensor([4, 2, 3, 5]),
    )
    own = nll.flip(0)
    whole, part = gate.weights(nll, own=own), gate.weights(nll[units], units, own[units])
    assert torch.equal(part, whole[units])
    assert part.dtype == torch.float64
    assert gate.count_known(nll) == 2  # of prior's others than of the threshold's


def test_prior_labels_stand_and_the_unmet_are_judged() -> None:
    nll = torch.tensor([0.1, 0.9, 0.1, 0.9])
    gate = Gate("prior", threshold=0.5, prior=torch.tensor([-1, -1, 0, 1]))
    assert gate.weights(nll).tolist() == [1, 0, 0, 1]
    assert gate.count_known(nll) == 2
    first = Gate("prior", threshold=0.5, prior=torch.full((4,), -1))
    torch.testing.assert_close(first.weights(nll), Gate("nll", 0.5).weights(nll))
