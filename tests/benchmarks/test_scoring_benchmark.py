"""The benchmark of scoring runs and writes what others read; no time is asserted."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scoring.py"


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None,
    reason="needs lm-evaluation-harness (pip install lm-eval==0.4.13)",
)
def test_it_runs(tmp_path):
    path = tmp_path / "results" / "scoring.json"
    command = [sys.executable, str(SCRIPT), "--quick", "--repeats", "2", "--json", str(path)]
    command += ["--case", "zero-shot", "--case", "five-shot"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(path.read_text(encoding="utf-8"))
    assert list(result["ratios"]) == [
        "zero-shot",
        "zero-shot/floor",
        "five-shot",
        "five-shot/floor",
        "five-shot/unshared",
    ]
    for ratio in result["ratios"].values():
        assert ratio["time"] > 0
        assert ratio["memory"] > 0
        assert ratio["against"]
    for found in result["cases"].values():
        assert found["largest_difference"] < 1e-4
        assert found["profile"]
