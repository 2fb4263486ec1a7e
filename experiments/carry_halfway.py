"""Halfway between two temperatures: the one fitted in domain and the one without labels.

    python experiments/carry_halfway.py --run runs/reproduce/atlas/country --seeds 1 2 3 4

On a task that nobody trained on, the temperature fitted in domain is too low (it is correct where
fine-tuning taught as much as in domain), and the one of `+daca` too high (it is correct where
fine-tuning taught nothing). The geometric mean of the two needs no label of the task and no choice.
Beside it two rivals: the temperature fitted in domain, squared, which needs neither the base model
nor any question of the task; and halfway to a base model that was scaled in domain first, for one
that is not calibrated. Nothing is refused here. Printed: each way's NLL, Brier score, ECE and AURC,
means over the tasks not trained on, and the differences from the temperature fitted in domain, with
tasks, questions and seeds drawn.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from carry_why import gold_of, predictions_of
from numpy.typing import NDArray
from scipy.special import log_softmax

from cogcalib.harness.run_folder import RunFolder
from cogcalib.jsonl import read_jsonl
from cogcalib.metrics import (
    drawn_tasks_bootstrap,
    resample_weights,
    resampled_aurc,
    resampled_ece,
    resampled_mean,
)
from cogcalib.posthoc import TemperatureScaling
from cogcalib.records import Example, Prediction
from cogcalib.scoring import fit_to_base
from cogcalib.scoring.posthoc import option_shares

RESAMPLES = 200
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """A task with one seed at one temperature: for each question, [n]."""

    nll: Values
    sure: Values
    correct: Values


Ways = dict[str, Asked]
"""Way to a temperature -> what it makes of a task's questions."""
BINS = 15
METRICS: dict[str, Callable[[Values, Asked], Values]] = {
    "NLL": lambda weights, asked: resampled_mean(weights, asked.nll),
    "Brier": lambda weights, asked: resampled_mean(weights, (asked.sure - asked.correct) ** 2),
    "ECE": lambda weights, asked: resampled_ece(weights, asked.sure, asked.correct, bins=BINS),
    "AURC": lambda weights, asked: resampled_aurc(weights, asked.sure, asked.correct),
}
IN_DOMAIN = "in domain"


def ways(shares: Values, gold: Sequence[int], temperatures: Mapping[str, float]) -> Ways:
    """Each way's confidences; the answers are the same under all."""
    found = {}
    correct = (shares.argmax(axis=1) == np.array(gold)).astype(float)
    for name, temperature in temperatures.items():
        log_p = log_softmax(shares / temperature, axis=1)
        sure = np.minimum(np.exp(log_p.max(axis=1)), 1.0)
        found[name] = Asked(-log_p[np.arange(len(gold)), gold], sure, correct)
    return found


def read(
    folder: RunFolder, method: str, seeds: Sequence[int], least: int = 0
) -> dict[str, list[Ways]]:
    """Task not trained on, of `least` questions or more -> for each seed what `ways` finds."""
    examples: dict[tuple[str, str, str], Example] = {}
    for path in folder.tested():
        examples |= {(e.task, e.split, e.id): e for e in read_jsonl(path, Example)}
    found: dict[str, list[Ways]] = {}
    for seed in seeds:
        base, made = predictions_of(folder, "base", seed), predictions_of(folder, method, seed)
        ((trained_on, _),) = [key for key in made if key[1] == "calibration"]
        in_domain = fitted(made[trained_on, "calibration"], examples)
        of_base = fitted(base[trained_on, "calibration"], examples)
        for (task, split), rows in made.items():
            if split != "test" or task == trained_on or len(rows) < least:
                continue
            theirs = {row.id: row for row in base[task, split]}
            asked = [theirs[row.id] for row in rows]
            unlabelled = fit_to_base(rows, asked).temperature_
            to_scaled = fit_to_base(rows, [scaled(row, of_base) for row in asked]).temperature_
            shares = option_shares(rows, max(len(row.option_logprobs or ()) for row in rows))
            temperatures = {
                "none": 1.0, IN_DOMAIN: in_domain, "squared": in_domain**2,
                "unlabelled": unlabelled, "halfway": math.sqrt(in_domain * unlabelled),
                "halfway, base scaled": math.sqrt(in_domain * to_scaled),
            }  # fmt: skip
            found.setdefault(task, []).append(ways(shares, gold_of(rows, examples), temperatures))
    return found


def fitted(rows: Sequence[Prediction], examples: Mapping[tuple[str, str, str], Example]) -> float:
    """The temperature of lowest NLL."""
    shares = option_shares(rows, max(len(row.option_logprobs or ()) for row in rows))
    return TemperatureScaling().fit(shares, gold_of(rows, examples)).temperature_


def scaled(row: Prediction, temperature: float) -> Prediction:
    """The same answer, its shares among the options at a temperature."""
    return replace(row, option_logprobs=tuple(z / temperature for z in row.option_logprobs or ()))


def compared(found: Mapping[str, Sequence[Ways]]) -> Iterator[str]:
    """A line for each metric and way: its mean over tasks, and against `IN_DOMAIN`."""
    sizes = {task: len(seeds[0][IN_DOMAIN].nll) for task, seeds in found.items()}
    weights = {
        task: np.vstack([np.full((1, n), 1 / n), resample_weights(n, RESAMPLES)])
        for task, n in sizes.items()
    }  # the first row leaves the questions as they are
    for metric, measure in METRICS.items():
        tables = {
            way: [
                np.array([measure(weights[task], each[way]) for each in seeds])
                for task, seeds in found.items()
            ]
            for way in next(iter(found.values()))[0]
        }  # way -> for each task [seeds, 1 + RESAMPLES]
        for way, of_tasks in tables.items():
            gaps = [a - b for a, b in zip(of_tasks, tables[IN_DOMAIN], strict=True)]
            told = drawn_tasks_bootstrap([g[:, 0] for g in gaps], [g[:, 1:] for g in gaps])
            lower = sum(bool(gap[:, 0].mean() < 0) for gap in gaps)
            mean = np.mean([table[:, 0].mean() for table in of_tasks])
            yield (
                f"{metric:5} {way:20} {mean:.4f}  {told.difference:+.4f} "
                f"[{told.low:+.4f}, {told.high:+.4f}]  lower on {lower} of {len(gaps)}"
            )


def main() -> None:
    """Read, compute, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="a run folder of `reproduce`")
    parser.add_argument("--method", default="sft")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    # Of the first atlas' task on capitals there are 164.
    parser.add_argument("--least", type=int, default=900, help="questions of a task that counts")
    options = parser.parse_args()
    found = read(RunFolder(options.run), options.method, options.seeds, options.least)
    print(f"{options.method}, seeds {options.seeds}, {len(found)} tasks: {', '.join(found)}")
    for told in compared(found):
        print(told)


if __name__ == "__main__":
    main()
