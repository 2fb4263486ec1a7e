"""The cost of judging the answers in an evaluation: with `eval_calibration` against without.

One trainer evaluates the same examples, the argument on and off in turns; once as open-ended
answers, once with four options each.

    python benchmarks/evaluate.py --json evaluate.json          # one CPU thread: minutes
    python benchmarks/evaluate.py --quick                       # does it run? measures nothing
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
os.environ.update(HF_DATASETS_DISABLE_PROGRESS_BARS="1", TRANSFORMERS_VERBOSITY="error")

import argparse
import tempfile
from functools import partial
from typing import Any

import torch
from _measure import Comparison, Work, add_options, report, take_turns
from _train import make_trainer
from _workload import FIRST_WORD, IGNORED, KNOWN, WORKLOADS, Workload, make_data
from datasets import Dataset

LIMIT = 1.02
AGAINST = "the same evaluation with eval_calibration=False"


def with_options(dataset: Dataset, vocabulary: int) -> Dataset:
    """Four tokens that compete at each answer's first, among them the right one and the likeliest
    one."""
    others = range(FIRST_WORD, vocabulary)
    found = []
    for labels in dataset["labels"]:
        gold = next(label for label in labels if label != IGNORED)
        ids = dict.fromkeys([gold, KNOWN, *others[:3]])
        found.append(list(ids)[:4])
    return dataset.add_column("option_ids", found)


def evaluate(trainer: Any, judged: bool) -> None:
    """Evaluate, and check that the argument does what is measured."""
    trainer.args.eval_calibration = judged
    found = trainer.evaluate()
    if ("eval_ece" in found) is not judged:
        raise RuntimeError(f"eval_calibration={judged} gave {sorted(found)}")


def measure(workload: Workload, examples: int, repeats: int, device: str) -> dict[str, list[float]]:
    """Seconds of an evaluation with and without, of answers and of options."""
    seconds: dict[str, list[float]] = {}
    for kind in ("answers", "options"):
        data = make_data(workload, examples, seed=2)
        if kind == "options":
            data = with_options(data, workload.vocabulary)
        with tempfile.TemporaryDirectory() as folder:
            trainer = make_trainer("no-ledger", workload, folder, device, evaluation=data)
            case = f"{workload.name}/{kind}"
            work: dict[str, Work] = {
                f"{case}/{name}": partial(evaluate, trainer, judged)
                for name, judged in (("with", True), ("without", False))
            }
            for each in work.values():
                each()
            seconds |= take_turns(work, repeats, device)
    return seconds


def main() -> None:
    """Measure, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, repeats=11)
    parser.add_argument("--workload", action="append", choices=list(WORKLOADS))
    parser.add_argument("--examples", type=int, default=400, help="evaluated")
    parser.add_argument("--quick", action="store_true", help="tiny, only to see that it runs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    workloads = [WORKLOADS[name] for name in options.workload or ("lora-short", "lora-long")]
    if options.quick:
        workloads = [workload.quick() for workload in workloads]
    comparisons: list[Comparison] = []
    seconds: dict[str, list[float]] = {}
    for workload in workloads:
        seconds |= measure(workload, options.examples, options.repeats, options.device)
        for kind in ("answers", "options"):
            case = f"{workload.name}/{kind}"
            comparisons.append(Comparison(case, f"{case}/with", f"{case}/without", AGAINST, LIMIT))
    settings = {
        "device": options.device,
        "quick": options.quick,
        "threads": options.threads,
        "repeats": options.repeats,
        "examples": options.examples,
    }
    report(comparisons, seconds, {}, settings, options.json)


if __name__ == "__main__":
    main()
