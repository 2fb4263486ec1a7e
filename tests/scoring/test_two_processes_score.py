"""Two processes of `accelerate launch` give what one gives, to the bit, each of them all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from score_on_ranks import TASKS, predictions

from cogcalib.records import Prediction, read_jsonl

# Without a GPU in sight this starts processes on CPUs.
CONFIG = """
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
num_machines: 1
num_processes: 2
mixed_precision: "no"
"""


@pytest.mark.slow
def test_each_process_gets_what_one_alone_gets(tmp_path):
    config = tmp_path / "accelerate.yaml"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    command += ["--main_process_port", "0"]
    script = Path(__file__).with_name("score_on_ranks.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, str(script), str(tmp_path)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    for task in TASKS:
        alone = predictions(task)
        for rank in range(2):
            path = tmp_path / f"{task.replace('/', '-')}.{rank}-of-2.jsonl"
            assert read_jsonl(path, Prediction) == alone
