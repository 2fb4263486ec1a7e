"""The benchmark of the probe's memory runs and writes what others read; nothing is claimed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "probe_scale.py"


@pytest.mark.slow
def test_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "results" / "scale.json"
    command = [sys.executable, str(SCRIPT), "--quick", "--engines", "local", "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(path.read_text(encoding="utf-8"))
    assert list(result["ratios"]) == ["local"]
    ratio = result["ratios"]["local"]
    assert ratio["against"] == "50 questions, asked 200"
    assert 0 < ratio["memory"] < 1.5
    assert [run["rows"] for run in result["runs"]] == [50, 200]
