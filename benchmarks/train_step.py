"""A step of CogCalibTrainer, its threshold's estimation included, against TRL's SFTTrainer.

The same Llama, data and batches of 8; short answers (about 160 tokens, 3 supervised) and long ones
(about 512, 480 supervised), LoRA and all weights. The estimation on 500 examples is charged to the
steps between two estimates at the default interval of a training set of 10,000.

    python benchmarks/train_step.py --json train_step.json      # one CPU thread: about an hour
    python benchmarks/train_step.py --workload lora-short --repeats 5
    python benchmarks/train_step.py --quick                     # does it run? measures nothing
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
os.environ.update(HF_DATASETS_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")

import argparse
import json
import tempfile
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from _measure import Comparison, Work, add_options, peak_memory, report, take_turns
from _train import AGAINST, OURS, SUBJECTS, Stepper, estimate, interval, make_trainer, prepare
from _workload import FOR_A_GPU, LIKE_SMOLLM2, WORKLOADS, Workload

NAMED = WORKLOADS | {workload.name: workload for workload in (FOR_A_GPU, LIKE_SMOLLM2)}
EXAMPLES = 10_000
CALIBRATION = 500
MEASURED = 32
"""Calibration examples of one timed estimate: its time is in proportion to their number."""
WARM_UP = 2
LIMITS = {
    ("lora-short", "trl"): (0.10, 0.10),
    ("full-short", "trl"): (0.12, 0.30),
    **{(f"{kind}-short", "trl-compact"): (1.0, None) for kind in ("lora", "full")},
    **{(f"{kind}-long", "trl"): (1.0, 1.0) for kind in ("lora", "full")},
    **{(name, "no-ledger"): (1.02, None) for name in WORKLOADS},
}


def step_seconds(
    workload: Workload, subjects: Sequence[str], repeats: int, device: str, penalty: str
) -> dict[str, list[float]]:
    """Seconds of each subject's step, in turns; a share of an estimation added to CogCalib's."""
    with tempfile.TemporaryDirectory() as folder:
        build = partial(make_trainer, workload=workload, folder=folder, device=device)
        trainers = {
            subject: build(subject, calibration=MEASURED, penalty=penalty) for subject in subjects
        }
        steppers = {subject: Stepper(trainer, subject) for subject, trainer in trainers.items()}
        work: dict[str, Work] = {subject: stepper.step for subject, stepper in steppers.items()}
        estimating = partial(estimate, trainers["cogcalib"])
        work["estimate"] = partial(steppers["cogcalib"].between_steps, estimating)
        take_turns(work, WARM_UP, device)
        seconds = take_turns(work, repeats, device)
        for stepper in steppers.values():
            stepper.stop()
    share = CALIBRATION / MEASURED / interval(EXAMPLES, CALIBRATION)
    estimates = seconds.pop("estimate")
    for ours in OURS:
        seconds[ours] = [a + share * b for a, b in zip(seconds[ours], estimates, strict=True)]
    return {f"{workload.name}/{subject}": values for subject, values in seconds.items()}


def memory_work(subject: str, workload: Workload, device: str, penalty: str, held: bool) -> Work:
    """What `peak_memory` watches: three steps and, before the last, an estimate of the threshold.

    If `held`, two of the steps are over before: what one step hands to the next (the weights, the
    optimiser's state) is not counted then, only what comes and goes.
    """
    stepper, trainer = prepare(subject, workload, device, penalty, 2 if held else 0)

    def work() -> None:
        for _ in range(0 if held else 2):
            stepper.step()
        if trainer is not None:
            stepper.between_steps(partial(estimate, trainer))
        stepper.step()

    return work


def compare(workload: Workload, subjects: Sequence[str]) -> list[Comparison]:
    """CogCalib against each of the others, and the floor against TRL."""
    name = workload.name
    found = []
    for other in subjects[1:]:
        limits = LIMITS.get((name, other), (None, None))
        case = f"{name}/{other}"
        found.append(Comparison(case, f"{name}/cogcalib", case, AGAINST[other], *limits))
    floor = f"{AGAINST['trl']}; here the body without any head, the floor, against it"
    found.append(Comparison(f"{name}/floor", f"{name}/body", f"{name}/trl", floor))
    return found


def main() -> None:
    """Measure, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, repeats=7)
    parser.add_argument("--workload", action="append", choices=list(NAMED))
    parser.add_argument(
        "--penalty", choices=["label_smoothing", "margin", "entropy"], default="label_smoothing"
    )
    parser.add_argument("--quick", action="store_true", help="tiny, only to see that it runs")
    options = parser.parse_args()
    if options.threads != 1:
        parser.error("--threads must be 1: the trainers run in threads of their own")
    torch.set_num_threads(1)
    # On CUDA the two ways TRL's head has of choosing its positions are one.
    subjects = [s for s in SUBJECTS if (s, options.device) != ("trl-compact", "cuda")]
    workloads = [NAMED[name] for name in options.workload or WORKLOADS]
    if options.quick:
        workloads = [workload.quick() for workload in workloads]
    penalty, device = options.penalty, options.device
    comparisons: list[Comparison] = []
    seconds: dict[str, list[float]] = {}
    memory: dict[str, int] = {}
    held: dict[str, int] = {}
    for workload in workloads:
        comparisons += compare(workload, subjects)
        seconds |= step_seconds(workload, subjects, options.repeats, device, penalty)
    settings = {
        "penalty": penalty,
        "device": device,
        "quick": options.quick,
        "threads": 1,
        "repeats": options.repeats,
        "examples": EXAMPLES,
        "calibration": CALIBRATION,
        "interval": interval(EXAMPLES, CALIBRATION),
    }
    result = report(comparisons, seconds, {}, settings, None)
    finish(result, comparisons, {}, options.json)
    if options.no_memory:
        return
    for workload, subject in product(workloads, subjects):
        for found, is_held in ((memory, False), (held, True)):
            arguments = (subject, workload, device, penalty, is_held)
            found[f"{workload.name}/{subject}"] = peak_memory(memory_work, arguments, device)
    result = report(comparisons, seconds, memory, settings, None)
    finish(result, comparisons, held, options.json)


def finish(
    result: dict[str, Any],
    comparisons: Sequence[Comparison],
    held: dict[str, int],
    path: Path | None,
) -> None:
    """Add what a step alone needs, and write it."""
    contestants = result["contestants"]
    for one in comparisons:
        if held:
            of_step = held[one.ours] / held[one.theirs]
            result["ratios"][one.case]["memory_of_step"] = of_step
            print(f"{one.case}: memory of a step alone {of_step:.3f}")
    for name, one_contestant in contestants.items():
        one_contestant["peak_bytes_of_step"] = held.get(name)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
