"""The fused loss against other linear cross-entropies, forward and backward.

Theirs compute cross-entropy only, TRL's with entropy and accuracy beside it; ours adds the penalty
for every example and has both statistics, too. On CUDA TRL's runs on Triton, and Liger's and
Apple's take part, without which nothing is measured there. Beside each ratio stands the floor: the
time that the matrix products, or reading and writing each tensor once, would take at this machine's
best, against the other's time. On a CPU, 4096 tokens with a vocabulary of 128,256 and width 512
take minutes per turn:

    python benchmarks/loss.py --json loss.json
    python benchmarks/loss.py --tokens 512 --repeats 5          # sooner, and less exact
    python benchmarks/loss.py --quick                           # does it run? measures nothing
    python benchmarks/loss.py --device cuda --dtype bfloat16 --tokens 16384 --hidden 4096
    python benchmarks/loss.py --device cuda --dtype bfloat16 --term entropy --compiled
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from functools import partial

import torch
from _floor import measure_peak_rates
from _linear_losses import (
    AGAINST,
    CCE,
    COMPILED,
    LENGTHS,
    LIGER,
    TERMS,
    TORCH,
    TRL,
    USUAL,
    Shape,
    absent_from_torch,
    make_inputs,
    make_work,
    run,
)
from _measure import Comparison, add_options, peak_memory, report, take_turns
from _peers import absent

CPU_LIMITS = {TRL: dict.fromkeys(USUAL, 0.40), TORCH: dict.fromkeys(USUAL, 1.25)}
CPU_LIMITS[TORCH]["label_smoothing"] = 1.10
CUDA_LIMITS = {name: dict.fromkeys(TERMS, 1.05) for name in (TRL, LIGER, CCE)}
MEMORY_LIMITS = {"trained": 0.12, "frozen": 0.20}
"""On a CPU, against TRL's."""
CUDA_MEMORY_LIMIT = 1.0
"""Against each whose time is limited there."""


def compare(shape: Shape, ours: list[str], others: list[str], floor: float) -> list[Comparison]:
    """Each of ours against each of the others, and compiled against eager."""
    on_cpu, head = shape.device == "cpu", shape.head
    limits = CPU_LIMITS if on_cpu else CUDA_LIMITS
    found = []
    for name in ours:
        term, length, *how = name.split("/")
        rivals = dict(zip(others, others, strict=True))
        if how:
            rivals["eager"] = f"{term}/{length}"
        for label, theirs in rivals.items():
            time_limit = limits.get(theirs, {}).get(term)
            memory_limit = MEMORY_LIMITS[head] if theirs == TRL else None
            if not on_cpu:
                memory_limit = None if time_limit is None else CUDA_MEMORY_LIMIT
            found.append(
                Comparison(
                    case="/".join([term, length, head, *how, label]),
                    ours=f"{head}/{name}",
                    theirs=f"{head}/{theirs}",
                    against=AGAINST.get(label, "the same without compiling"),
                    time_limit=time_limit,
                    memory_limit=memory_limit,
                    floor=floor,
                )
            )
    return found


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, repeats=3)
    parser.add_argument("--quick", action="store_true", help="tiny, only to see that it runs")
    parser.add_argument(
        "--term", choices=list(TERMS), action="append", help=f"default: {', '.join(USUAL)}"
    )
    parser.add_argument(
        "--compiled", action="store_true", help="ours with compiled tiles as well (experimental)"
    )
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--vocabulary", type=int, default=128_256)
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    options = parser.parse_args()
    if options.quick:
        options.tokens, options.hidden, options.vocabulary = 24, 16, 2048
    options.absent = absent(options.device)
    if options.device == "cuda" and options.absent:
        parser.error("; ".join(options.absent.values()))
    return options


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    device, dtype, missing = options.device, options.dtype, options.absent | absent_from_torch()
    others = [name for name in AGAINST if name not in missing]
    ours = [f"{term}/{length}" for term in options.term or USUAL for length in LENGTHS]
    if options.compiled:
        ours += [f"{name}/{COMPILED}" for name in ours]
    names = [*others, *ours]
    rates = measure_peak_rates(device, dtype, options.quick)

    comparisons: list[Comparison] = []
    seconds: dict[str, list[float]] = {}
    for frozen in (False, True):
        shape = Shape(options.tokens, options.hidden, options.vocabulary, dtype, device, frozen)
        small = make_inputs(Shape(8, options.hidden, 1024, dtype, device, frozen))
        inputs = make_inputs(shape)
        for name in names:
            run(name, *small)  # libraries load at the first call
            if name.endswith(COMPILED):
                run(name, *inputs)  # compiled for one size; for any other the second time
        work = {f"{shape.head}/{name}": partial(run, name, *inputs) for name in names}
        seconds |= take_turns(work, options.repeats, device)
        del inputs, work
        sizes = shape.tokens, shape.hidden, shape.vocabulary
        comparisons += compare(shape, ours, others, rates.floor(*sizes, dtype, frozen))
    settings = {**asdict(shape), "threads": options.threads, "repeats": options.repeats}
    settings["quick"] = options.quick
    del settings["frozen"]
    write = partial(
        report,
        comparisons,
        seconds,
        settings=settings,
        path=options.json,
        peak_rates=rates.as_json(),
        absent=missing,
    )
    write({})
    if not options.no_memory:
        shapes = [replace(shape, frozen=frozen) for frozen in (False, True)]
        memory = {
            f"{each.head}/{name}": peak_memory(make_work, (name, each), device)
            for each in shapes
            for name in names
        }
        write(memory)
    for name, reason in missing.items():
        print(f"not compared with {AGAINST[name]}: {reason}")


if __name__ == "__main__":
    main()
