"""The benchmark of the probe's memory runs and writes what others read; nothing is claimed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "probe_scale.py"


def quick(folder: Path, *options: str) -> dict[str, Any]:
    path = folder / "results" / "scale.json"
    command = [sys.executable, str(SCRIPT), "--quick", "--json", str(path), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--grouped"]])
def test_it_runs(tmp_path: Path, options: list[str]) -> None:
    result = quick(tmp_path, "--engines", "local", *options)
    assert list(result["ratios"]) == ["local"]
    ratio = result["ratios"]["local"]
    assert ratio["against"] == "100 questions, asked 200"
    assert 0 < ratio["memory"] < 1.5
    assert [run["rows"] for run in result["runs"]] == [100, 200]


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs Ray Data: pip install cogcalib[ray]"
)
def test_two_workers_find_the_rows_of_one(tmp_path: Path) -> None:
    result = quick(tmp_path, "--engines", "ray-1", "ray-2")
    memory = [f"ray-{n}, {who}" for n in (1, 2) for who in ("driver", "worker")]
    assert list(result["ratios"]) == [*memory, "ray-2/ray-1"]
