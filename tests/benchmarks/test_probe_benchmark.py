"""The benchmark of the probe runs and writes what others read; no time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "probe.py"


@pytest.mark.slow
def test_it_runs(tmp_path):
    path = tmp_path / "results" / "probe.json"
    command = [sys.executable, str(SCRIPT), "--quick", "--repeats", "2", "--json", str(path)]
    command += ["--case", "generated-8", "--no-memory"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(path.read_text(encoding="utf-8"))
    others = ("generate", "cached", "sampled", "unshared", "body")
    assert list(result["ratios"]) == [f"generated-8/{other}" for other in others]
    for ratio in result["ratios"].values():
        assert ratio["time"] > 0
        assert ratio["against"]
    found = result["cases"]["generated-8"]
    assert found["largest_difference"] < 1e-5
    assert found["floor"]["seconds"] > 0
    assert found["profile"]
