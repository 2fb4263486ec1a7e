"""Does regularising what the model knows make its confidence better? The main job over seeds.

    python experiments/main_job.py [--seeds 0 1 2] [--root runs] [--jobs 2]

With the first seed every method is trained at every strength of a grid; what at least halves SFT's
ECE (vocab) on the calibration split goes on to the other seeds. Among the gated variants one is
chosen on the calibration split alone (means over seeds): the most accurate of those that still do.
Uniform smoothing goes through the same choice. The chosen are then scored on the test splits with
and without temperature scaling, and out of domain; the table shows those. docs/lab-log.md tells
which rule came before this one, and why it was given up.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev
from typing import Any

GRID = {  # level -> penalty -> (vocab, options)
    1: {"label_smoothing": (0.05, 0.05), "margin": (0.1, 0.1), "entropy": (0.1, 0.1)},
    2: {"label_smoothing": (0.1, 0.1), "margin": (0.2, 0.2), "entropy": (0.2, 0.2)},
    3: {"label_smoothing": (0.2, 0.2), "margin": (0.3, 0.4), "entropy": (0.4, 0.4)},
    4: {"label_smoothing": (0.3, 0.3), "margin": (0.5, 0.8), "entropy": (0.8, 0.8)},
}
GATED = ("cols", "combls", "coecp")
UNIFORM = ("ls",)
Row = dict[str, Any]
Place = tuple[str, str, str]


def command(name: str, methods: list[str], level: int, seed: int, root: Path) -> list[str]:
    """The command line of one run; level 0 holds what has no strength."""
    overrides = [f"name={name}-seed-{seed}", f"seeds=[{seed}]", f"methods=[{', '.join(methods)}]"]
    for penalty, (vocab, options) in GRID.get(level, {}).items():
        overrides.append(f"train.alpha.{penalty}={{vocab: {vocab}, options: {options}}}")
    if name.startswith("sweep"):
        overrides += ["tasks.out_of_domain=[]", "report.resamples=100"]
    words = [sys.executable, "-m", "cogcalib.cli", "demo", "--runs", str(root)]
    return words + [word for override in overrides for word in ("-o", override)]


def run_all(cells: list[tuple[str, list[str], int, int]], root: Path, jobs: int) -> None:
    """Run every cell that is not finished; each is resumed where it was interrupted."""

    def run(cell: tuple[str, list[str], int, int]) -> None:
        done = subprocess.run(command(*cell, root), capture_output=True, text=True, check=False)
        print(f"{cell[0]}, seed {cell[3]}: exit code {done.returncode}", flush=True)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, cells))


def collect(runs: dict[str, str], seeds: list[int], root: Path) -> dict[Place, list[Row]]:
    """(method, task, split) -> a row per seed; `runs` maps a run to what marks its methods."""
    table = defaultdict(list)
    for run, mark in runs.items():
        for seed in seeds:
            path = root / f"{run}-seed-{seed}" / "metrics.json"
            if not path.exists():  # nothing of it went on to this seed
                continue
            for row in json.loads(path.read_text(encoding="utf-8")):
                table[row["method"] + mark, row["task"], row["split"]].append(row)
    return dict(table)


def average(rows: Iterable[Row], metric: str) -> tuple[float, float]:
    """Mean and standard deviation over seeds; an ECE by its definition, as ``ece.vocab``."""
    outer, _, inner = metric.partition(".")
    values = [row[outer][inner]["value"] if inner else row[outer] for row in rows]
    return mean(values), stdev(values) if len(values) > 1 else 0.0


def halving(table: dict[Place, list[Row]]) -> list[str]:
    """The variants that at least halve SFT's ECE on the calibration split."""
    split = ("atlas/country", "calibration")
    limit = average(table["sft", *split], "ece.vocab")[0] / 2
    return [
        name
        for (name, task, part), rows in table.items()
        if (task, part) == split and "@" in name and average(rows, "ece.vocab")[0] <= limit
    ]


def choose(table: dict[Place, list[Row]], stems: Iterable[str]) -> str:
    """The variant that the rule picks on the calibration split."""

    def merit(name: str) -> tuple[float, float]:
        rows = table[name, "atlas/country", "calibration"]
        return average(rows, "accuracy")[0], -average(rows, "ece.vocab")[0]

    return max((n for n in halving(table) if re.split("[- ]", n)[0] in stems), key=merit)


def show(table: dict[Place, list[Row]], names: list[str], split: str) -> str:
    """A Markdown table of the named methods on every task that has the split."""
    lines = []
    for task in dict.fromkeys(task for _, task, part in table if part == split):
        lines += [f"\n{task}, {split}, n = {table[names[0], task, split][0]['n']}\n"]
        lines += ["| method | accuracy % | ECE vocab % | ECE options % | NLL | Brier |"]
        lines += ["|---|---|---|---|---|---|"]
        for name in names:
            rows = table[name, task, split]
            cells = []
            for metric in ("accuracy", "ece.vocab", "ece.options", "nll", "brier"):
                middle, spread = average(rows, metric)
                scale = 1 if metric in ("nll", "brier") else 100
                digits = 3 if scale == 1 else 1
                cells.append(f"{scale * middle:.{digits}f} ± {scale * spread:.{digits}f}")
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run, choose on calibration, show the test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--root", type=Path, default=Path("runs"))
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    seeds, root = options.seeds, options.root
    variants = [stem + support for stem in GATED + UNIFORM for support in ("", "-options")]
    plain = ["base", "sft", "sft+ts"]
    cells = [("main", plain, 0, seed) for seed in seeds]
    cells += [(f"sweep-{level}", variants, level, seeds[0]) for level in GRID]
    run_all(cells, root, options.jobs)
    sweeps = {"main": "", **{f"sweep-{level}": f" @{level}" for level in GRID}}
    table = collect(sweeps, seeds[:1], root)
    print(f"seed {seeds[0]}:", show(table, sorted({name for name, _, _ in table}), "calibration"))

    alive = halving(table)
    left = {level: [n[:-3] for n in alive if n.endswith(f"@{level}")] for level in GRID}
    again = [(f"sweep-{n}", left[n], n, seed) for seed in seeds[1:] for n in GRID if left[n]]
    run_all(again, root, options.jobs)
    table = collect(sweeps, seeds, root)
    print(f"\nseeds {seeds}:", show(table, ["sft", *sorted(alive)], "calibration"))

    names, finals = list(plain), {"main": ""}
    for kind, stems in (("gated", GATED), ("uniform", UNIFORM)):
        method, level = choose(table, stems).split(" @")
        finals[kind] = f" ({kind})"
        names += [f"{method} ({kind})", f"{method}+ts ({kind})"]
        print(f"\nchosen on calibration, {kind}: {method} at {GRID[int(level)]}")
        pair = [method, f"{method}+ts"]
        run_all([(kind, pair, int(level), seed) for seed in seeds], root, options.jobs)
    print(show(collect(finals, seeds, root), names, "test"))


if __name__ == "__main__":
    main()
