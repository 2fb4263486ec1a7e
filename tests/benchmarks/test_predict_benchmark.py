"""The benchmark of predictions runs, its sides agree; no time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "predict.py"


@pytest.mark.slow
def test_it_runs(tmp_path):
    path = tmp_path / "predict.json"
    command = [sys.executable, str(SCRIPT), "--quick", "--repeats", "1", "--no-memory"]
    done = subprocess.run([*command, "--json", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(path.read_text(encoding="utf-8"))
    assert list(result["ratios"]) == [
        f"{case}/{other}"
        for case in ("choices", "open")
        for other in ("score", "generate", "stream")
    ]
    for ratio in result["ratios"].values():
        assert ratio["time"] > 0
    for found in result["cases"].values():
        assert found["largest_difference"] < 1e-4
