"""The cost of estimating the threshold, as a share of the training between two estimates.

At the default interval, which aims at 2 % between four times and once an epoch, on a calibration
split of 500. 10,000 training examples are the figure, other sizes are computed from the same times.

    python benchmarks/threshold.py --json threshold.json        # one CPU thread: minutes
    python benchmarks/threshold.py --workload lora-long --examples 50000
    python benchmarks/threshold.py --quick                      # does it run? measures nothing
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
os.environ.update(HF_DATASETS_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")

import argparse
import statistics
import tempfile
from functools import partial
from typing import Any

import torch
from _measure import Comparison, Work, add_options, peak_memory, report, take_turns
from _train import Stepper, estimate, interval, make_trainer, prepare
from _workload import BATCH, WORKLOADS, Workload

LIMIT = 0.02
SIZES = (1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000)
STEPS = 8
"""Training steps timed before each estimate."""
PENALTY = "label_smoothing"


def measure(
    workload: Workload, calibration: int, repeats: int, device: str
) -> tuple[list[float], list[float]]:
    """Seconds of a training step and of an estimate, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer("cogcalib", workload, folder, device, calibration=calibration)
        stepper = Stepper(trainer, "cogcalib")

        def steps() -> None:
            for _ in range(STEPS):
                stepper.step()

        stepper.step()
        work: dict[str, Work] = {"steps": steps, "estimate": partial(estimate, trainer)}
        seconds = take_turns(work, repeats, device)
        stepper.stop()
    return [value / STEPS for value in seconds["steps"]], seconds["estimate"]


def memory_work(workload: Workload, device: str, estimates: bool) -> Work:
    """What `peak_memory` watches: an estimate of the threshold, or else a training step."""
    stepper, trainer = prepare("cogcalib", workload, device, PENALTY, 2)
    if estimates:
        if trainer is None:
            raise TypeError("the trainer of the subject 'cogcalib' is no CogCalibTrainer")
        return partial(estimate, trainer)
    return stepper.step


def shares_by_size(step: float, estimate_time: float, calibration: int) -> dict[str, Any]:
    """The share for other training sets, and how many examples bring it to the limit."""
    per_interval_of_one = estimate_time / step
    enough = next(
        n
        for n in range(BATCH, 10**8, BATCH)
        if per_interval_of_one <= LIMIT * interval(n, calibration)
    )
    return {
        "seconds_per_step": step,
        "seconds_per_estimate": estimate_time,
        "share_by_examples": {
            str(n): per_interval_of_one / interval(n, calibration) for n in SIZES
        },
        "examples_for_limit": enough,
    }


def main() -> None:
    """Measure, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, repeats=5)
    parser.add_argument("--workload", action="append", choices=list(WORKLOADS))
    parser.add_argument("--examples", type=int, default=10_000, help="of the training set")
    parser.add_argument("--calibration", type=int, default=500, help="examples of the split")
    parser.add_argument("--quick", action="store_true", help="tiny, only to see that it runs")
    options = parser.parse_args()
    if options.threads != 1:
        parser.error("--threads must be 1: the trainer runs in a thread of its own")
    torch.set_num_threads(1)
    workloads = [WORKLOADS[name] for name in options.workload or ("lora-short", "full-short")]
    if options.quick:
        workloads = [workload.quick() for workload in workloads]
    every = interval(options.examples, options.calibration)
    comparisons: list[Comparison] = []
    seconds: dict[str, list[float]] = {}
    memory: dict[str, int] = {}
    sizes: dict[str, dict[str, Any]] = {}
    for workload in workloads:
        name = workload.name
        ours, theirs = f"{name}/estimate", f"{name}/{every} steps"
        against = (
            f"the {every} training steps between two estimates, {options.examples} examples "
            "trained on (memory: a step)"
        )
        comparisons.append(Comparison(name, ours, theirs, against, LIMIT, None))
        steps, estimates = measure(workload, options.calibration, options.repeats, options.device)
        seconds |= {ours: estimates, theirs: [every * value for value in steps]}
        sizes[name] = shares_by_size(
            statistics.median(steps), statistics.median(estimates), options.calibration
        )
        if not options.no_memory:
            for contestant, is_estimate in ((ours, True), (theirs, False)):
                arguments = (workload, options.device, is_estimate)
                memory[contestant] = peak_memory(memory_work, arguments, options.device)
    settings = {
        "device": options.device,
        "quick": options.quick,
        "threads": 1,
        "repeats": options.repeats,
        "examples": options.examples,
        "calibration": options.calibration,
        "interval": every,
    }
    report(comparisons, seconds, memory, settings, options.json, sizes=sizes)
    print_sizes(sizes)


def print_sizes(sizes: dict[str, dict[str, Any]]) -> None:
    """A row for each workload: the share in percent by the size of the training set."""
    print("\nestimation as a share of training, by examples trained on")
    print(f"{'':<12}" + "".join(f"{n:>9,}" for n in SIZES) + f"   {LIMIT:.0%} from")
    for name, found in sizes.items():
        cells = "".join(f"{100 * share:8.2f}%" for share in found["share_by_examples"].values())
        print(f"{name:<12}{cells}   {found['examples_for_limit']:,} examples")


if __name__ == "__main__":
    main()
