"""Does the memory of a probe grow with its data, and do two workers take half the time of one?

A tiny random Llama is asked N distinct questions of a JSONL file zero-shot, through the command
line, page and all; with `--grouped` behind four shots of the question's group. Peaks are the
kernel's high-water marks of resident memory: with `local` of the one process, with `ray-1` and
`ray-2` (so many workers) of the driver and of the worker that had most. `time` is seconds a
question; starting up is in it, so that many questions look cheaper than few. Of `ray-2/ray-1` it is
that of the questions between few and many, without what every probe needs once; both must have
found the same rows.

    python benchmarks/probe_scale.py --json probe_scale.json        # 10,000 against 1,000,000
    python benchmarks/probe_scale.py --rows 2000 200000 --engines local
    python benchmarks/probe_scale.py --rows 20000 200000 --engines ray-1 ray-2
    python benchmarks/probe_scale.py --grouped --json probe_scale-grouped.json
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

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from _environment import environment
from transformers import LlamaConfig, LlamaForCausalLM

from cogcalib.modeling import load_tokenizer

LIMIT = 1.10
"""What the peak over many questions may be of the peak over few."""

ENGINES = {
    "local": [],
    "ray-1": ["--engine", "ray", "--workers", "1"],
    "ray-2": ["--engine", "ray", "--workers", "2"],
}
ZERO_SHOT = ["--shots", "0"]
GROUPED = ["--shots", "4", "--prompts", "1"]
GROUPS = 20
QUICK = (100, 200)
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


def write_questions(path: Path, rows: int, grouped: bool) -> Path:
    """Distinct questions, in `GROUPS` groups or in one."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            city, country = CITIES[number % len(CITIES)], COUNTRIES[number % len(COUNTRIES)]
            question = f"In which country is district {number} of {city}?"
            row = {"question": question, "answer": country}
            if grouped:
                row["group"] = f"group {number % GROUPS}"
            file.write(json.dumps(row) + "\n")
    return path


def measure(engine: str, rows: int, grouped: bool, model: Path, folder: Path) -> Measured:
    """Probe in processes of its own, into ``folder/ENGINE-ROWS``."""
    data = write_questions(folder / f"{rows}.jsonl", rows, grouped)
    command = [sys.executable, "-m", "cogcalib", "probe", "--model", str(model)]
    command += ["--data", str(data), "--output", str(folder / f"{engine}-{rows}")]
    command += ENGINES[engine] + (GROUPED if grouped else ZERO_SHOT)
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
        name = few.engine
        peaks = {f"{name}, driver": peaks[name], f"{name}, worker": (many.worker, few.worker)}
    return {
        name: {
            "time": time_ratio,
            "memory": above / below,
            "against": against,
            "limit": {"time": None, "memory": LIMIT},
        }
        for name, (above, below) in peaks.items()
    }


def compare_workers(
    one: tuple[Measured, Measured], two: tuple[Measured, Measured]
) -> dict[str, dict[str, Any]]:
    """Two workers against one: the time of the questions by which many are more than few."""
    extra = [many.seconds - few.seconds for few, many in (two, one)]
    few, many = one
    return {
        f"{two[0].engine}/{one[0].engine}": {
            "time": extra[0] / extra[1],
            "memory": None,
            "floor": 0.5,
            "against": f"one worker, {many.rows - few.rows:,} questions more",
            "limit": {"time": None, "memory": None},
        }
    }


def check_same_rows(folder: Path, run: Measured, other: Measured) -> None:
    """Raise unless two probes of the same questions found the same.

    Raises:
        RuntimeError: If they did not.
    """

    def found(one: Measured) -> pa.Table:
        path = folder / f"{one.engine}-{one.rows}" / "probe.parquet"
        return pq.read_table(path).sort_by("id")

    if not found(run).equals(found(other)):
        raise RuntimeError(f"{run.engine} and {other.engine} found other rows")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs=2, default=[10_000, 1_000_000])
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--grouped", action="store_true", help="behind shots, in groups")
    parser.add_argument("--quick", action="store_true", help="few questions, no claims")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    engines = list(options.engines)
    if importlib.util.find_spec("ray") is None:
        engines = [engine for engine in engines if not engine.startswith("ray")]
        print("ray is left out: it is not installed (cogcalib[ray])")
    rows = QUICK if options.quick else options.rows
    ratios: dict[str, dict[str, Any]] = {}
    runs: dict[str, tuple[Measured, Measured]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_model(folder / "model")
        for engine in engines:
            few, many = (measure(engine, n, options.grouped, model, folder) for n in rows)
            runs[engine] = few, many
            ratios |= compare(few, many)
            print(few, many, sep="\n")
            check_same_rows(folder, many, runs[engines[0]][1])
    if {"ray-1", "ray-2"} <= runs.keys():
        ratios |= compare_workers(runs["ray-1"], runs["ray-2"])
    for name, ratio in ratios.items():
        memory = f"memory x{ratio['memory']:.3f}  " if ratio["memory"] is not None else ""
        print(f"{name:14} {memory}time a question x{ratio['time']:.3f}")
    if options.json is not None:
        settings = {"rows": rows, "grouped": options.grouped, "quick": options.quick}
        result = {
            "ratios": ratios,
            "runs": [asdict(run) for pair in runs.values() for run in pair],
            "settings": settings,
            "environment": environment(),
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
