"""The fused loss against other linear cross-entropies, forward and backward.

Theirs compute cross-entropy only, TRL's with entropy and accuracy beside it; ours adds the penalty
for every example and has both statistics, too. On CUDA TRL's runs on Triton, and Liger's and
Apple's take part where they are installed. Beside each ratio stands the floor: the time that the
matrix products, or reading and writing each tensor once, would take at this machine's best, against
the other's time. On a CPU, 4096 tokens with a vocabulary of 128,256 and width 512 take minutes per
turn:

    python benchmarks/loss.py --json loss.json
    python benchmarks/loss.py --tokens 512 --repeats 5          # sooner, and less exact
    python benchmarks/loss.py --quick                           # does it run? measures nothing
    python benchmarks/loss.py --device cuda --dtype bfloat16 --tokens 16384 --hidden 4096
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from functools import partial

import torch
from _floor import PeakRates, measure_peak_rates
from _linear_losses import (
    AGAINST,
    CCE,
    LENGTHS,
    LIGER,
    OURS,
    PENALTIES,
    TORCH,
    TRL,
    Shape,
    absent,
    make_inputs,
    make_work,
    run,
)
from _measure import Comparison, add_options, peak_memory, report, take_turns

CPU_LIMITS = {TRL: dict.fromkeys(PENALTIES, 0.40), TORCH: dict.fromkeys(PENALTIES, 1.25)}
CPU_LIMITS[TORCH]["label_smoothing"] = 1.10
CUDA_LIMITS = {name: dict.fromkeys(PENALTIES, 1.05) for name in (TRL, LIGER, CCE)}
MEMORY_LIMITS = {"trained": 0.12, "frozen": 0.20}


def compare(shape: Shape, others: list[str], rates: PeakRates) -> list[Comparison]:
    """Every term and length of ours against each of the others."""
    on_cpu = shape.device == "cpu"
    limits = CPU_LIMITS if on_cpu else CUDA_LIMITS
    sizes = shape.tokens, shape.hidden, shape.vocabulary
    return [
        Comparison(
            case=f"{term}/{length}/{shape.head}/{theirs}",
            ours=f"{shape.head}/{term}/{length}",
            theirs=f"{shape.head}/{theirs}",
            against=AGAINST[theirs],
            time_limit=limits.get(theirs, {}).get(term),
            memory_limit=MEMORY_LIMITS[shape.head] if on_cpu and theirs == TRL else None,
            floor=rates.floor(*sizes, shape.dtype, shape.frozen),
        )
        for term in PENALTIES
        for length in LENGTHS
        for theirs in others
    ]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, repeats=3)
    parser.add_argument("--quick", action="store_true", help="tiny, only to see that it runs")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=128_256)
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    options = parser.parse_args()
    if options.quick:
        options.tokens, options.hidden, options.vocabulary = 24, 16, 2048
    return options


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    device, dtype = options.device, options.dtype
    missing = absent(device)
    others = [name for name in AGAINST if name not in missing]
    rates = measure_peak_rates(device, dtype, options.quick)

    comparisons: list[Comparison] = []
    seconds: dict[str, list[float]] = {}
    memory: dict[str, int] = {}
    for frozen in (False, True):
        shape = Shape(options.tokens, options.hidden, options.vocabulary, dtype, device, frozen)
        small = make_inputs(Shape(8, options.hidden, 1024, dtype, device, frozen))
        inputs = make_inputs(shape)
        names = [*others, *OURS]
        for name in names:
            run(name, *small)  # libraries load at the first call
        work = {f"{shape.head}/{name}": partial(run, name, *inputs) for name in names}
        seconds |= take_turns(work, options.repeats, device)
        del inputs, work
        comparisons += compare(shape, others, rates)
        if not options.no_memory:
            for name in names:
                memory[f"{shape.head}/{name}"] = peak_memory(make_work, (name, shape), device)
    settings = {**asdict(shape), "threads": options.threads, "repeats": options.repeats}
    settings["quick"] = options.quick
    del settings["frozen"]
    report(
        comparisons,
        seconds,
        memory,
        settings,
        options.json,
        peak_rates=rates.as_json(),
        absent=missing,
    )
    for name, reason in missing.items():
        print(f"not compared with {AGAINST[name]}: {reason}")


if __name__ == "__main__":
    main()
