"""Time and peak memory of things that do the same work, as ratios with their spread.

Times are taken in one process, the contestants taking turns, so that whatever else the machine does
hits all of them; a ratio is the median over the turns of the ratios within a turn. Peak memory is
measured once per contestant: on a CPU in a process of its own, the most resident memory while it
runs, less what was resident before with inputs and libraries loaded; on CUDA in this process, the
same of allocated memory. What is written after the times is written again with the memory.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _environment import environment

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One ratio: `ours` against `theirs`, both names of contestants, and what it may be at most.

    `floor`: the least seconds that the work takes on this machine, whoever does it.
    """

    case: str
    ours: str
    theirs: str
    against: str
    time_limit: float | None = None
    memory_limit: float | None = None
    floor: float | None = None


def take_turns(
    contestants: Mapping[str, Work], repeats: int, device: str
) -> dict[str, list[float]]:
    """Seconds of each contestant in each of `repeats` turns, every other turn in reverse order."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    for turn in range(repeats):
        for name in order if turn % 2 == 0 else reversed(order):
            _wait(device)
            start = time.perf_counter()
            result = contestants[name]()
            _wait(device)
            seconds[name].append(time.perf_counter() - start)
            del result
    return seconds


def peak_memory(setup: Callable[..., Work], arguments: Sequence[Any], device: str) -> int:
    """Bytes that the work `setup(*arguments)` returns needs at most, above what `setup` left.

    On a CPU `setup` runs in a fresh process: it must be importable, and its arguments picklable.
    On CUDA the allocator counts to the byte, and a new process would take seconds to begin.
    """
    if device == "cuda":
        return _peak_here(setup, tuple(arguments), device, torch.get_num_threads())
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(
            _peak_here, setup, tuple(arguments), device, torch.get_num_threads()
        ).result()


def _peak_here(
    setup: Callable[..., Work], arguments: tuple[Any, ...], device: str, threads: int
) -> int:
    torch.set_num_threads(threads)
    work = setup(*arguments)
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key}: peak memory needs Linux")


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def report(
    comparisons: Sequence[Comparison],
    seconds: Mapping[str, Sequence[float]],
    memory: Mapping[str, int],
    settings: Mapping[str, Any],
    path: Path | None,
    **more: Any,
) -> dict[str, Any]:
    """Print the ratios as a table and write them, with what they are made of, as JSON.

    A ratio is the median over the turns, ``spread`` its quartiles, ``floor`` what the time ratio
    would be if nothing but the least necessary were done; `more` goes into the JSON, too.
    """
    ratios = {}
    for one in comparisons:
        pairs = [a / b for a, b in zip(seconds[one.ours], seconds[one.theirs], strict=True)]
        ratios[one.case] = ratio = {
            "time": statistics.median(pairs),
            "spread": np.quantile(pairs, [0.25, 0.75]).tolist(),
            "time_range": [min(pairs), max(pairs)],
            "memory": memory[one.ours] / memory[one.theirs] if memory else None,
            "against": one.against,
            "limit": {"time": one.time_limit, "memory": one.memory_limit},
        }
        if one.floor is not None:
            ratio["floor"] = one.floor / statistics.median(seconds[one.theirs])
    contestants = {
        name: {"seconds": list(values), "peak_bytes": memory.get(name)}
        for name, values in seconds.items()
    }
    result = {
        "ratios": ratios,
        "contestants": contestants,
        "settings": dict(settings),
        "environment": environment(settings.get("device", "cpu")),
        **more,
    }
    _print_table(ratios)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n")
    return result


def _print_table(ratios: Mapping[str, Mapping[str, Any]]) -> None:
    width = max((len(case) for case in ratios), default=4)
    floors = any("floor" in ratio for ratio in ratios.values())
    print(
        f"{'case':<{width}}  {'time':>6} {'(range)':>15} {'limit':>6}"
        f"{' ' * floors}{'floor' if floors else '':>{6 * floors}}  {'memory':>6} {'limit':>6}"
    )
    for case, ratio in ratios.items():
        low, high = ratio["time_range"]
        limit = ratio["limit"]
        floor = f" {_number(ratio.get('floor')):>6}" if floors else ""
        print(
            f"{case:<{width}}  {ratio['time']:6.3f} {f'({low:.3f}-{high:.3f})':>15} "
            f"{_number(limit['time']):>6}{floor}  {_number(ratio['memory']):>6} "
            f"{_number(limit['memory']):>6}  against {ratio['against']}"
        )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def add_options(parser: argparse.ArgumentParser, repeats: int) -> None:
    """The options every benchmark takes: --json, --device, --repeats, --threads, --no-memory."""
    parser.add_argument("--json", type=Path, help="where to write the ratios")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--repeats", type=int, default=repeats, help="turns of every contestant")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--no-memory", action="store_true", help="time only")
