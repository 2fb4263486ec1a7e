"""The load test runs and writes what the page shows; no time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serve.py"


@pytest.mark.slow
def test_it_runs_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "results" / "serve.json"
    command = [sys.executable, str(SCRIPT), "--quick", "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(path.read_text(encoding="utf-8"))
    assert list(result["ratios"]) == ["served"]
    load = result["load"]
    assert load["lost"] == 0
    assert load["questions"] > 0
    assert load["difference_from_predict"] < 1e-4
    assert load["p50"] <= load["p99"] <= load["most"]
    assert result["settings"]["quick"] is True
