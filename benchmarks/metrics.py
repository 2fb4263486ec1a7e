"""ECE of ten million predictions, and bootstrap intervals, against the libraries that have them.

The cases `evaluate-N` set all metrics with their intervals against each on every resample anew.

    python benchmarks/metrics.py --json metrics.json            # one CPU thread: minutes
    python benchmarks/metrics.py --case ece-float64 --repeats 15
    python benchmarks/metrics.py --quick                        # does it run? measures nothing

Needs netcal and torchmetrics, of the dev extra.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1")

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from _measure import Comparison, Work, add_options, peak_memory, report, take_turns

from cogcalib.metrics import (
    bootstrap_interval,
    evaluate,
    expected_calibration_error,
    standard_metrics,
)

BINS = 15
RESAMPLES = 1000
SOME_RESAMPLES = 20  # of all metrics: each takes a share of the rows' own sort besides
LIMIT = 0.2

Arrays = tuple[np.ndarray, np.ndarray]


def uniform(n: int) -> Arrays:
    """Confidences all over [0, 1], float64."""
    rng = np.random.default_rng(0)
    confidence = rng.random(n)
    return confidence, rng.random(n) < confidence


def uniform32(n: int) -> Arrays:
    """The same in float32, in which models compute."""
    confidence, correct = uniform(n)
    return confidence.astype(np.float32), correct


def certain(n: int) -> Arrays:
    """As of an overconfident model: nearly all in the last bin, many exactly 1.0, float32."""
    rng = np.random.default_rng(0)
    confidence = (1.0 - 10.0 ** -rng.uniform(0.3, 12.0, n)).astype(np.float32)
    return confidence, rng.random(n) < 0.9


def ours(arrays: Arrays, binning: str = "width") -> Work:
    """cogcalib."""
    return partial(expected_calibration_error, *arrays, bins=BINS, binning=binning)


def torchmetrics(arrays: Arrays, validate: bool = False) -> Work:
    """torchmetrics; its checks of the arrays are on by default, its faster way is without."""
    from torchmetrics.functional.classification import binary_calibration_error

    confidence, correct = map(torch.from_numpy, arrays)
    return partial(
        binary_calibration_error, confidence, correct, n_bins=BINS, validate_args=validate
    )


def netcal(arrays: Arrays, binning: str = "width") -> Work:
    """netcal, whose labels are integers."""
    from netcal.metrics import ECE

    measure = ECE(BINS, equal_intervals=binning == "width").measure
    return partial(measure, arrays[0], arrays[1].astype(np.int64))


def our_interval(arrays: Arrays) -> Work:
    """cogcalib's interval of its ECE."""
    return partial(bootstrap_interval, expected_calibration_error, *arrays, resamples=RESAMPLES)


def scipy_interval(arrays: Arrays) -> Work:
    """scipy's interval, over torchmetrics' ECE."""
    from scipy.stats import bootstrap

    def ece(confidence: np.ndarray, correct: np.ndarray) -> float:
        return float(torchmetrics((confidence, correct))())  # type: ignore[arg-type]

    return partial(
        bootstrap, arrays, ece, n_resamples=RESAMPLES, paired=True, vectorized=False,
        method="percentile", rng=np.random.default_rng(0),
    )  # fmt: skip


def resamples_of(n: int) -> int:
    """Of all metrics: with few rows as many as a report has."""
    return RESAMPLES if n < 10_000 else SOME_RESAMPLES


def our_evaluation(arrays: Arrays) -> Work:
    """cogcalib's every metric with its interval; rows are sorted once."""
    return partial(evaluate, *arrays, resamples=resamples_of(len(arrays[0])))


def plain_evaluation(arrays: Arrays) -> Work:
    """The same, each metric computed from the drawn rows anew."""
    every = {
        name: (lambda *drawn, each=each: each(*drawn)) for name, each in standard_metrics().items()
    }
    return partial(evaluate, *arrays, metrics=every, resamples=resamples_of(len(arrays[0])))


Contestant = Callable[[Arrays], Work]
WIDTH: dict[str, Contestant] = {
    "cogcalib": ours,
    "torchmetrics": torchmetrics,
    "torchmetrics-validated": partial(torchmetrics, validate=True),
    "netcal": netcal,
}
MASS: dict[str, Contestant] = {
    "cogcalib": partial(ours, binning="mass"),
    "netcal": partial(netcal, binning="mass"),
}
EVALUATION: dict[str, Contestant] = {"cogcalib": our_evaluation, "drawn-rows": plain_evaluation}
INTERVAL: dict[str, Contestant] = {"cogcalib": our_interval, "scipy": scipy_interval}

CASES: dict[str, tuple[dict[str, Contestant], Callable[[int], Arrays], int]] = {
    "ece-float64": (WIDTH, uniform, 10_000_000),
    "ece-float32": (WIDTH, uniform32, 10_000_000),
    "ece-certain": (WIDTH, certain, 10_000_000),
    "ece-mass": (MASS, uniform, 10_000_000),
    "interval-1000": (INTERVAL, uniform, 1_000),
    "interval-10000": (INTERVAL, uniform, 10_000),
    "interval-100000": (INTERVAL, uniform, 100_000),
    "evaluate-1000": (EVALUATION, uniform, 1_000),
    "evaluate-10000": (EVALUATION, uniform, 10_000),
    "evaluate-100000": (EVALUATION, uniform, 100_000),
    "evaluate-1000000": (EVALUATION, uniform, 1_000_000),
}


def memory_work(case: str, contestant: str, n: int) -> Work:
    """What `peak_memory` watches: one measurement, libraries loaded and once used."""
    contestants, sample, _ = CASES[case]
    contestants[contestant](sample(100))()
    return contestants[contestant](sample(n))


def measure(
    case: str, n: int, repeats: int, memory: bool
) -> tuple[list[Comparison], dict[str, list[float]], dict[str, int]]:
    """Comparisons of a case, seconds and peak bytes, by ``case/contestant``."""
    contestants, sample, _ = CASES[case]
    arrays = sample(n)
    work = {f"{case}/{name}": make(arrays) for name, make in contestants.items()}
    for each in work.values():
        each()
    seconds = take_turns(work, repeats, "cpu")
    peaks: dict[str, int] = {}
    if memory and n == CASES[case][2]:
        for name in contestants:
            peaks[f"{case}/{name}"] = peak_memory(memory_work, (case, name, n), "cpu")
    mine, *others = work
    fastest = min(others, key=lambda name: statistics.median(seconds[name]))
    limits = {fastest: LIMIT} if contestants is WIDTH else {}
    return (
        [
            Comparison(name, mine, name, describe(name, n), limits.get(name), None)
            for name in others
        ],
        seconds,
        peaks,
    )


def describe(name: str, n: int) -> str:
    """What stands in ``against``."""
    case, _, contestant = name.partition("/")
    what = {
        "torchmetrics": "torchmetrics' binary_calibration_error, validate_args=False",
        "torchmetrics-validated": "torchmetrics' binary_calibration_error",
        "netcal": f"netcal's ECE, {'equal mass' if case == 'ece-mass' else 'equal width'}",
        "drawn-rows": f"every metric on the drawn rows anew, {resamples_of(n)} resamples",
        "scipy": f"scipy.stats.bootstrap over torchmetrics' ECE, {RESAMPLES} resamples",
    }[contestant]
    return f"{what}, {n:,} predictions, {BINS} bins"


def main() -> None:
    """Measure, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, repeats=9)
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--quick", action="store_true", help="tiny, only to see that it runs")
    options = parser.parse_args()
    if options.device != "cpu":
        parser.error("--device must be cpu: the metrics take numpy arrays")
    torch.set_num_threads(options.threads)
    comparisons: list[Comparison] = []
    seconds: dict[str, list[float]] = {}
    memory: dict[str, int] = {}
    for case in options.case or CASES:
        n = 500 if options.quick else CASES[case][2]
        found = measure(case, n, options.repeats, not (options.no_memory or options.quick))
        comparisons += found[0]
        seconds |= found[1]
        memory |= found[2]
    settings = {"quick": options.quick, "threads": options.threads, "repeats": options.repeats}
    report(comparisons, seconds, memory, settings, options.json)


if __name__ == "__main__":
    main()
