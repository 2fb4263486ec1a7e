"""The trainers' benchmarks run and write what others read; no time is asserted."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
OTHERS = ("trl", "trl-compact", "body", "no-ledger", "floor")
CASES = {
    "train_step": [f"lora-short/{other}" for other in OTHERS],
    "threshold": ["lora-short"],
}
OPTIONS = {"train_step": [], "threshold": ["--calibration", "16"]}


def run(name: str, folder: Path, *options: str) -> dict[str, Any]:
    path = folder / "results" / f"{name}.json"
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--json", str(path), "--quick"]
    command += ["--workload", "lora-short", "--repeats", "2", *OPTIONS[name], *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for case in result["ratios"]:
        assert case in done.stdout
    return result


def check(result: dict[str, Any], cases: list[str], kinds: list[str]) -> None:
    assert list(result["ratios"]) == cases
    for ratio in result["ratios"].values():
        low, high = ratio["spread"]
        assert ratio["against"]
        for value in (low, high, *(ratio[kind] for kind in kinds)):
            assert math.isfinite(value)
            assert value > 0
        assert low <= ratio["time"] <= high
    assert result["settings"]["quick"] is True


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_times_are_compared(name: str, tmp_path: Path) -> None:
    result = run(name, tmp_path, "--no-memory")
    check(result, CASES[name], ["time"])
    assert all(ratio["memory"] is None for ratio in result["ratios"].values())


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_memory_is_compared(name: str, tmp_path: Path) -> None:
    check(run(name, tmp_path), CASES[name], ["time", "memory"])
