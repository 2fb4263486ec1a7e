"""Two processes of `accelerate launch` give what one gives, to the bit, each of them all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from score_on_ranks import TASKS, predictions

from cogcalib import cli
from cogcalib.jsonl import read_jsonl
from cogcalib.records import Prediction

# Without a GPU in sight this starts processes on CPUs.
CONFIG = """
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
num_machines: 1
num_processes: 2
mixed_precision: "no"
"""


def launch(folder: Path, *words: str) -> str:
    """What two processes of `accelerate launch` print."""
    config = folder / "accelerate.yaml"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    command += ["--main_process_port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*command, *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_each_process_gets_what_one_alone_gets(tmp_path):
    launch(tmp_path, str(Path(__file__).with_name("score_on_ranks.py")), str(tmp_path))
    for task in TASKS:
        alone = predictions(task)
        for rank in range(2):
            path = tmp_path / f"{task.replace('/', '-')}.{rank}-of-2.jsonl"
            assert read_jsonl(path, Prediction) == alone


@pytest.mark.slow
def test_the_command_writes_once_and_prints_one_table(tmp_path, capsys):
    words = ["score", "--model", "atlas", "--task", "atlas/capital", "--output"]
    printed = launch(tmp_path, "-m", "cogcalib", *words, str(tmp_path / "two.jsonl"))
    assert cli.main([*words, str(tmp_path / "one.jsonl")]) == 0
    assert printed.replace("two.jsonl", "one.jsonl") == capsys.readouterr().out
    assert "atlas/capital · test · n = 164" in printed
    one, two = (read_jsonl(tmp_path / f"{name}.jsonl", Prediction) for name in ("one", "two"))
    assert one == two
