"""The server under load: 64 connections, with broken, oversized and slow requests among them.

What serving a question takes against `Predictor.predict` on the same questions, its latency, how
many requests were lost, and the server's memory before and after.

    python benchmarks/serve.py --json serve.json       # one CPU thread for the server: two minutes
    python benchmarks/serve.py --connections 8 --seconds 20
    python benchmarks/serve.py --quick                 # does it run? measures nothing
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
os.environ.update(HF_DATASETS_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openai
import torch
from _load import Load, Plan
from _measure import Comparison, report

from cogcalib.deployment.calibration_file import AnswerFormat, Calibration, write_calibration
from cogcalib.deployment.identity import identify
from cogcalib.deployment.predictor import Predictor, load
from cogcalib.modeling import load_tokenizer
from cogcalib.tasks import load_task

KEY_ENV, KEY = "COGCALIB_BENCHMARK_KEY", "a key of the benchmark"
WINDOWS = 6
"""Pieces of the time under load, each with a throughput of its own."""


def questions(most: int) -> list[dict[str, Any]]:
    """Test questions of the embedded task, as `predict` takes them."""
    examples = load_task("atlas/country").splits["test"][:most]
    return [
        {"question": each.prompt, "options": [option.text for option in each.options or ()]}
        for each in examples
    ]


def calibrated(folder: Path) -> Predictor:
    """The embedded model with a calibration of its own confidence, in `folder`."""
    identity = identify("atlas", load_tokenizer("atlas"))
    answers = AnswerFormat("options", "options", preset="cogcalib")
    write_calibration(folder, Calibration(identity, answers))
    return load("atlas", calibration=folder)


@contextmanager
def server(folder: Path) -> Iterator[tuple[int, int]]:
    """A server in a process of its own; gives its port and its process id."""
    command = [sys.executable, "-m", "cogcalib", "serve", "atlas", "--calibration", str(folder)]
    command += ["--port", "0", "--api-key-env", KEY_ENV]
    environment = {**os.environ, KEY_ENV: KEY}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if "/v1" not in line:
            raise RuntimeError(f"the server did not start: {line!r}")
        yield int(line.partition("/v1")[0].rpartition(":")[2]), process.pid
        process.send_signal(signal.SIGTERM)
        if process.wait(60) != 0:
            raise RuntimeError(f"the server ended with {process.returncode}")
    finally:
        process.kill()
        process.wait()


def status_kib(pid: int, key: str) -> int:
    """KiB of a process's memory, as Linux has it."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def check_client(port: int, asked: dict[str, Any], predictor: Predictor) -> float:
    """How far the confidence that OpenAI's client gets is from that of `predict`."""
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY)
    got = client.chat.completions.create(
        model="atlas",
        messages=[{"role": "user", "content": asked["question"]}],
        logprobs=True,
        top_logprobs=5,
        extra_body={"options": asked["options"]},
    )
    (answer,) = predictor.predict([asked])
    choice = got.choices[0]
    if choice.message.content != answer.answer or choice.logprobs is None:
        raise RuntimeError(f"the client got {choice}, predict says {answer}")
    found: float = (choice.model_extra or {})["cogcalib"]["confidence"]
    return abs(found - answer.confidence)


def predict_seconds(predictor: Predictor, asked: list[dict[str, Any]], turns: int) -> list[float]:
    """Seconds a question of `predict` in each turn."""
    predictor.predict(asked[:32])
    seconds = []
    for _ in range(turns):
        began = time.perf_counter()
        predictor.predict(asked)
        seconds.append((time.perf_counter() - began) / len(asked))
    return seconds


def main() -> None:
    """Measure, print and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--quick", action="store_true", help="only to see that it runs")
    options = parser.parse_args()
    if options.quick:
        options.connections, options.seconds = 8, 3.0
    torch.set_num_threads(1)
    asked = questions(64 if options.quick else 1000)
    with tempfile.TemporaryDirectory() as folder:
        predictor = calibrated(Path(folder))
        alone = predict_seconds(predictor, asked, 3)
        with server(Path(folder)) as (port, pid):
            difference = check_client(port, asked[0], predictor)
            plan = Plan(port, KEY, asked)
            asyncio.run(Load(plan).run(options.connections, min(5.0, options.seconds)))
            before = status_kib(pid, "VmRSS")
            load_of_it = Load(plan)
            asyncio.run(load_of_it.run(options.connections, options.seconds))
            after, peak = status_kib(pid, "VmRSS"), status_kib(pid, "VmHWM")
    edges = np.linspace(0, options.seconds, WINDOWS + 1)
    counts, _ = np.histogram(load_of_it.finished, edges)
    served = (np.diff(edges) / np.maximum(counts, 1)).tolist()
    found = {
        **load_of_it.summary(),
        "memory_mib": {"before": before / 1024, "after": after / 1024, "peak": peak / 1024},
        "difference_from_predict": difference,
    }
    print(json.dumps(found, indent=2))
    against = "`Predictor.predict` on the same questions, in one process and thread"
    report(
        [Comparison("served", "served", "predict", against)],
        {"served": served, "predict": (alone * WINDOWS)[:WINDOWS]},
        {},
        {
            "device": "cpu",
            "quick": options.quick,
            "threads": 1,
            "connections": options.connections,
            "seconds": options.seconds,
        },
        options.json,
        load=found,
    )


if __name__ == "__main__":
    main()
