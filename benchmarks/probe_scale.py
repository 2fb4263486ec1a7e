"""Does the memory of a probe grow with its data? Peak RSS over many questions against few.

A tiny random Llama is asked N distinct questions of a JSONL file zero-shot, through the command
line, page and all. Peaks are the kernel's high-water marks of resident memory: with `local` of the
one process, with `ray` of the driver and of the worker that had most. `time` is seconds a question;
starting up is in it, so that many questions look cheaper than few.

    python benchmarks/probe_scale.py --json probe_scale.json        # 10,000 against 1,000,000
    python benchmarks/probe_scale.py --rows 2000 200000 --engines local
    python benchmarks/probe_scale.py --quick                        # does it run? measures nothing
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
os.environ.update(TRANSFORMERS_VERBOSITY="error")

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from _environment import environment
from transformers import LlamaConfig, LlamaForCausalLM

from cogcalib.modeling import load_tokenizer

LIMIT = 1.10
"""What the peak over many questions may be of the peak over few."""

WORKERS = 2
QUICK = (50, 200)
CITIES = ("Lyon", "Pune", "Lima", "Oslo", "Turin", "Leeds", "Kyoto", "Accra", "Quito", "Hanoi")
COUNTRIES = ("France", "India", "Peru", "Norway", "Italy", "Kenya", "Japan", "Ghana", "Chile")


@dataclass(frozen=True, slots=True)
class Measured:
    """One probe: its engine, questions, seconds, and peaks of resident memory in bytes."""

    engine: str
    rows: int
    seconds: float
    driver: int
    worker: int | None


def write_model(folder: Path) -> Path:
    """A random Llama of some 100,000 weights, with the embedded model's tokenizer."""
    tokenizer = load_tokenizer("atlas")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=256,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_questions(path: Path, rows: int) -> Path:
    """Distinct questions."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            city, country = CITIES[number % len(CITIES)], COUNTRIES[number % len(COUNTRIES)]
            question = f"In which country is district {number} of {city}?"
            file.write(json.dumps({"question": question, "answer": country}) + "\n")
    return path


def measure(engine: str, rows: int, model: Path, folder: Path) -> Measured:
    """Probe in processes of its own."""
    data = write_questions(folder / f"{engine}-{rows}.jsonl", rows)
    command = [sys.executable, "-m", "cogcalib.cli", "probe", "--model", str(model)]
    command += ["--data", str(data), "--shots", "0", "--output", str(folder / f"{engine}-{rows}")]
    if engine == "ray":
        command += ["--engine", "ray", "--workers", str(WORKERS)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peaks: dict[int, int] = {}
    while process.poll() is None:
        for pid in (process.pid, *workers_of(process.pid)):
            peaks[pid] = max(peaks.get(pid, 0), peak(pid))
        time.sleep(0.2)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    driver = peaks.pop(process.pid)
    return Measured(engine, rows, seconds, driver, max(peaks.values(), default=None))


def workers_of(driver: int) -> list[int]:
    """The processes below `driver` that hold a model."""
    parents, actors = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            pid, status = int(folder.name), (folder / "stat").read_text()
            parents[pid] = int(status.rpartition(")")[2].split()[1])
            if b"MapBatches(_Actor)" in (folder / "cmdline").read_bytes():
                actors.append(pid)
        except OSError:  # it has ended meanwhile
            continue
    return [pid for pid in actors if driver in _ancestors(pid, parents)]


def _ancestors(pid: int, parents: dict[int, int]) -> set[int]:
    found: set[int] = set()
    while (pid := parents.get(pid, 0)) and pid not in found:
        found.add(pid)
    return found


def peak(pid: int) -> int:
    """Most resident memory of a process so far, bytes; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(x.split()[1]) * 1024 for x in lines if x.startswith("VmHWM")), 0)


def compare(few: Measured, many: Measured) -> dict[str, dict[str, Any]]:
    """The ratios of two probes by the same engine."""
    time_ratio = many.seconds / many.rows / (few.seconds / few.rows)
    against = f"{few.rows:,} questions, asked {many.rows:,}"
    peaks = {few.engine: (many.driver, few.driver)}
    if few.worker is not None and many.worker is not None:
        peaks = {"ray, driver": peaks["ray"], "ray, worker": (many.worker, few.worker)}
    return {
        name: {
            "time": time_ratio,
            "memory": above / below,
            "against": against,
            "limit": {"time": None, "memory": LIMIT},
        }
        for name, (above, below) in peaks.items()
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs=2, default=[10_000, 1_000_000])
    parser.add_argument("--engines", nargs="+", default=["local", "ray"], choices=["local", "ray"])
    parser.add_argument("--quick", action="store_true", help="few questions, no claims")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    ratios, runs = {}, []
    for engine in options.engines:
        if engine == "ray" and importlib.util.find_spec("ray") is None:
            print("ray is left out: it is not installed (cogcalib[ray])")
            continue
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            model = write_model(folder / "model")
            rows = QUICK if options.quick else options.rows
            few, many = (measure(engine, count, model, folder) for count in rows)
        ratios |= compare(few, many)
        runs += [few, many]
        for run in (few, many):
            print(run)
    for name, ratio in ratios.items():
        print(f"{name:12} memory x{ratio['memory']:.3f}  time a question x{ratio['time']:.3f}")
    if options.json is not None:
        result = {
            "ratios": ratios,
            "runs": [asdict(run) for run in runs],
            "settings": {"rows": QUICK if options.quick else options.rows, "quick": options.quick},
            "environment": environment(),
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
