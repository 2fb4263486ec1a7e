"""The benchmark of the loss runs and writes what others read; no time is asserted."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
OTHERS = ["trl", "torch", "torch-128-rows"]
CASES = [
    f"{term}/{length}/{head}/{other}"
    for head in ("trained", "frozen")
    for term in ("label_smoothing", "margin", "entropy")
    for length in ("short", "long")
    for other in OTHERS
]


def run(folder: Path, *options: str) -> dict[str, Any]:
    path = folder / "results" / "loss.json"
    command = [sys.executable, str(BENCHMARKS / "loss.py"), "--quick", "--repeats", "2"]
    done = subprocess.run(
        [*command, "--json", str(path), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for shown in [*result["ratios"], "Liger", "Apple", "runs on CUDA only"]:
        assert shown in done.stdout
    return result


@pytest.mark.slow
def test_times_are_compared_and_floors_stand_beside_them(tmp_path: Path) -> None:
    result = run(tmp_path, "--no-memory")
    assert list(result["ratios"]) == CASES
    for ratio in result["ratios"].values():
        low, high = ratio["spread"]
        assert 0 < low <= ratio["time"] <= high < math.inf
        assert ratio["against"]
        assert ratio["memory"] is None
        assert 0 < ratio["floor"] < math.inf
    assert result["settings"]["quick"] is True
    assert result["absent"].keys() == {"liger", "cce"}
    assert min(result["peak_rates"].values()) > 0


@pytest.mark.slow
def test_memory_of_the_losses_is_compared(tmp_path: Path) -> None:
    ratios = run(tmp_path, "--term", "entropy")["ratios"]
    assert list(ratios) == [case for case in CASES if case.startswith("entropy")]
    for ratio in ratios.values():
        assert math.isfinite(ratio["memory"])


@pytest.mark.slow
def test_compiled_tiles_are_compared_with_eager_ones(tmp_path: Path) -> None:
    ratios = run(tmp_path, "--no-memory", "--term", "margin", "--compiled")["ratios"]
    assert len(ratios) == 2 * 2 * (2 * len(OTHERS) + 1)
    assert ratios["margin/short/frozen/compiled/eager"]["time"] > 0


def test_cut_cross_entropy_is_asked_for_every_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from _linear_losses import CCE, Shape, make_inputs, run

    asked: dict[str, Any] = {}

    def linear_cross_entropy(
        e: torch.Tensor, c: torch.Tensor, targets: torch.Tensor, **how: Any
    ) -> torch.Tensor:
        asked.update(how)
        return F.cross_entropy(e @ c.T, targets)

    package = types.ModuleType("cut_cross_entropy")
    monkeypatch.setattr(package, "linear_cross_entropy", linear_cross_entropy, raising=False)
    monkeypatch.setitem(sys.modules, package.__name__, package)
    gradients = run(CCE, *make_inputs(Shape(6, 4, 8, "float32", "cpu", frozen=False)))
    assert [tuple(g.shape) for g in gradients if g is not None] == [(6, 4), (8, 4)]
    assert asked["filter_eps"] is None  # its default leaves out small gradients
    assert (asked["reduction"], asked["impl"], asked["shift"]) == ("mean", "cce", False)


def test_the_floor_is_the_slower_of_computing_and_moving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from _floor import PeakRates, measure_peak_rates

    computing = PeakRates(flops=1e3, bytes=math.inf)
    assert computing.floor(5, 7, 11, "float32", frozen=False) == 6 * 5 * 7 * 11 / 1e3
    assert computing.floor(5, 7, 11, "float32", frozen=True) == 4 * 5 * 7 * 11 / 1e3
    moving = PeakRates(flops=math.inf, bytes=1e3)
    assert moving.floor(5, 7, 11, "bfloat16", frozen=False) == 2 * 7 * (2 * 5 + 2 * 11) / 1e3
    assert moving.floor(5, 7, 11, "bfloat16", frozen=True) == 2 * 7 * (2 * 5 + 11) / 1e3
    assert measure_peak_rates("cpu", "float32", quick=True).flops > 0


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_time_and_memory_are_held_to_the_others(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measurements made up: ours takes 1.06 times the time and memory of each, or 1.04 and 0.99."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from _linear_losses import Shape
    from _measure import report
    from _page import limits
    from loss import compare

    others = ["trl", "torch", "torch-128-rows", "liger", "cce"]
    shape = Shape(24, 16, 64, "float32", device, frozen=True)
    ours = ["focal/short", "margin/short", "margin/short/compiled"]
    comparisons = compare(shape, ours, others, floor=0.1)
    kept: dict[tuple[str, str], list[bool]] = {}
    for time, memory in ((1.06, 106), (1.04, 99)):
        seconds = {f"frozen/{name}": [1.0] for name in others}
        seconds |= {f"frozen/{name}": [time] for name in ours}
        peaks = dict.fromkeys(seconds, 100) | {f"frozen/{name}": memory for name in ours}
        ratios = report(comparisons, seconds, peaks, {}, None)["ratios"]
        for case, kind, found, most in limits(ratios):
            kept.setdefault((case, kind), []).append(found <= most)
    named = [f"{name}/frozen" for name in ("focal/short", "margin/short")]
    named.append("margin/short/frozen/compiled")
    if device == "cuda":
        assert kept == {
            (f"{name}/{other}", kind): [False, True]
            for name in named
            for other in ("trl", "liger", "cce")
            for kind in ("time", "memory")
        }
    else:  # memory against TRL, time where it is promised
        assert {case for case, kind in kept if kind == "memory"} == {f"{n}/trl" for n in named}
        assert not any(case.startswith("focal") for case, kind in kept if kind == "time")
