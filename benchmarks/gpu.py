"""The fifteen minutes of a GPU: every benchmark of it, one after the other, in less than ten.

The losses in bf16 at 16,384 tokens, width 4096 and a vocabulary of 128,256: each penalty over the
vocabulary and over options, eager and compiled, against TRL's Triton head, Liger's and Apple's.
Then a training step of a random 1 B Llama with LoRA against TRL, and scoring against
lm-evaluation-harness, and the remaining penalties. Nothing begins on a GPU unless all of these
import. Each is a process of its own with a limit of its own, so that one that fails or hangs costs
its share and no more; its times are on the disk before its memory is measured.

    benchmarks/gpu.sh prepare                                    # where there is a network
    benchmarks/gpu.sh run gpu                                    # on the machine with the GPU
    python benchmarks/gpu.py --output gpu                        # the same, as things are installed
    python benchmarks/gpu.py --output dry --device cpu --tiny    # does it run? measures nothing

It has not been run on a GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from _peers import PEERS, not_importable

HERE = Path(__file__).parent
BUDGET = 570.0
"""Seconds of everything."""
LINES = 12
"""Last lines that are kept of what failed."""
SIZES = ["--tokens", "16384", "--hidden", "4096", "--dtype", "bfloat16"]


@dataclass(frozen=True)
class Step:
    """A benchmark.

    Attributes:
        name: Of its results.
        script: Beside this file.
        options: At full size.
        tiny: Where it is only to run.
        limit: Seconds.
        needs: Module without which it is left out; on CUDA nothing begins without one.
    """

    name: str
    script: str
    options: tuple[str, ...]
    tiny: tuple[str, ...]
    limit: float
    needs: str = ""


@dataclass(frozen=True)
class Done:
    """What came of a step: ``measured``, ``failed``, ``out of time`` or ``left out``, and why."""

    name: str
    state: str
    seconds: float = 0.0
    said: str = ""


def loss_step(term: str, how: Sequence[str], limit: float = 100) -> Step:
    """A penalty over both supports."""
    terms = ["--term", term, "--term", f"{term}-options"]
    tiny = (*terms, *how, "--quick", "--repeats", "2")
    return Step(f"loss-{term}", "loss.py", (*terms, *how, *SIZES), tiny, limit)


def steps(how: Sequence[str]) -> list[Step]:
    """All, what matters most first."""
    return [
        loss_step("label_smoothing", how),
        loss_step("margin", how),
        loss_step("entropy", how),
        Step(
            "train_step",
            "train_step.py",
            ("--workload", "lora-1b", "--repeats", "5"),
            ("--workload", "lora-1b", "--quick", "--repeats", "2"),
            120,
        ),
        Step(
            "scoring",
            "scoring.py",
            ("--case", "1b", "--repeats", "5"),
            ("--case", "1b", "--quick", "--repeats", "2"),
            70,
            needs="lm_eval",
        ),
        loss_step("focal", (), 40),
    ]


def run_step(step: Step, output: Path, device: str, tiny: bool, limit: float) -> Done:
    """Run one within its limit; what it prints goes to a log beside its results."""
    if step.needs and importlib.util.find_spec(step.needs) is None:
        return Done(step.name, "left out", said=f"{step.needs} is not installed")
    words = [sys.executable, str(HERE / step.script), *(step.tiny if tiny else step.options)]
    words += ["--device", device, "--json", str(output / f"{step.name}.json")]
    log = output / f"{step.name}.log"
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            words, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # and what it started
            process.wait()
            there = (output / f"{step.name}.json").exists()
            said = f"{limit:.0f} s{', but its times are there' if there else ''}"
            return Done(step.name, "out of time", time.monotonic() - began, said)
    seconds = time.monotonic() - began
    if code == 0:
        return Done(step.name, "measured", seconds)
    last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES:]
    return Done(step.name, "failed", seconds, "\n".join(last))


def scripts_fail() -> str:
    """Why a benchmark does not import, the last line of it; empty if all do."""
    scripts = sorted({Path(step.script).stem for step in steps([])})
    words = [sys.executable, "-c", f"import {', '.join(scripts)}"]
    done = subprocess.run(words, cwd=HERE, capture_output=True, text=True, check=False)
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def main() -> None:
    """Run every step that there is time for; exit code 1 if one was not measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="a new folder for the results")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="only to see that it runs")
    parser.add_argument("--eager", action="store_true", help="without compiled tiles")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds of everything")
    options = parser.parse_args()
    if options.device == "cpu" and not options.tiny:
        parser.error("--device cpu goes with --tiny: at full size a processor takes hours")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU; --device cpu --tiny shows whether everything runs")
    if options.device == "cuda" and (missing := not_importable(*PEERS)):
        parser.error("; ".join(missing.values()))
    if options.device == "cuda" and (failure := scripts_fail()):
        parser.error(f"a benchmark does not import: {failure}")
    try:
        options.output.mkdir(parents=True)
    except FileExistsError:
        parser.error(f"--output must be a new folder, got {options.output}, which is there")
    began = time.monotonic()
    found: list[Done] = []
    for step in steps([] if options.eager else ["--compiled"]):
        left = options.budget - (time.monotonic() - began)
        limit = left if options.tiny else min(step.limit, left)  # a step's own is for a GPU
        if left <= 0:
            found.append(Done(step.name, "left out", said="the time was up"))
        else:
            found.append(run_step(step, options.output, options.device, options.tiny, limit))
        done = found[-1]
        print(f"{done.name}: {done.state}, {done.seconds:.0f} s", flush=True)
        if done.said:
            print(f"  {done.said}", flush=True)
        summary = {"device": options.device, "tiny": options.tiny}
        text = json.dumps({**summary, "steps": [asdict(each) for each in found]}, indent=1)
        (options.output / "gpu.json").write_text(text + "\n", encoding="utf-8")
    if any(each.state != "measured" for each in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
