"""``accelerate launch -m cogcalib probe``: what one process gives, to the byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cogcalib.tasks import load_task

# Without a GPU in sight this starts processes on CPUs.
CONFIG = "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nnum_processes: 2\n"
QUESTIONS = 90


def run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)


@pytest.mark.slow
def test_two_processes_are_one(tmp_path: Path) -> None:
    config, data = tmp_path / "accelerate.yaml", tmp_path / "own.jsonl"
    config.write_text(CONFIG, encoding="utf-8")
    examples = load_task("atlas/country-open").splits["train"][:QUESTIONS]
    lines = (json.dumps({"question": e.prompt, "answer": e.answer}) for e in examples)
    data.write_text("\n".join(lines), encoding="utf-8")
    words = ["cogcalib", "probe", "--model", "atlas", "--data", str(data)]
    words += ["--prompts", "2", "--shots", "2", "--partition", "40"]
    launch = ["accelerate.commands.launch", "--config_file", str(config)]
    launch += ["--main_process_port", "0", "-m"]
    alone = run(*words, "--output", str(tmp_path / "one"))
    assert alone.returncode == 0, alone.stderr
    both = run(*launch, *words, "--output", str(tmp_path / "two"))
    assert both.returncode == 0, both.stderr
    assert both.stdout.count("probe.parquet") == 1, "both processes printed"
    one, two = (tmp_path / name / "probe.parquet" for name in ("one", "two"))
    assert two.read_bytes() == one.read_bytes()
    assert not (tmp_path / "two" / "parts").exists()
    other = run(*launch, *words, "--output", str(tmp_path / "two"), "--seed", "1")
    assert other.returncode != 0
    assert "holds a run of a different configuration" in other.stderr
    ray = run(*launch, *words, "--output", str(tmp_path / "three"), "--engine", "ray")
    assert "not under accelerate launch" in ray.stderr or "needs Ray Data" in ray.stderr
