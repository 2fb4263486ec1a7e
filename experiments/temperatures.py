"""Temperatures by the gold tokens or by the log loss of the confidence: which leaves it calibrated?

temperatures.py --output docs/results/temperatures.json

Plain fine-tuning on atlas, one seed. The calibration split is cut in two; each half is judged by
the temperatures of the other. No test question is asked.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from cogcalib import pipeline
from cogcalib.harness.config import parse_config
from cogcalib.metrics import brier_score, expected_calibration_error
from cogcalib.modeling import load_model
from cogcalib.posthoc import TemperatureScaling
from cogcalib.provenance import code_state, versions
from cogcalib.records import Prediction, write_json
from cogcalib.scoring import ScoreSettings, answer_logits, fit_temperatures, score
from cogcalib.tasks import load_task

CONFIG = """
name: {name}
methods: [sft]
tasks: {{train: {task}, limit: {{train: 400, test: 1}}}}
train: {{steps: 200, batch_size: 16, learning_rate: 1e-3}}
"""
DEFINITIONS = {"atlas/country": ("vocab", "options"), "atlas/country-open": ("mean", "joint")}


def judged(task: str, definitions: tuple[str, ...], root: Path) -> dict[str, Any]:
    """Definition -> way to fit -> temperatures of the halves, ECE and Brier score, fractions."""
    config = parse_config(CONFIG.format(name=task.replace("/", "-"), task=task))
    folder = pipeline.run(config, root, Console(), resume=(root / config.name).exists())
    model, tokenizer = load_model("atlas", adapter=folder.train("sft", 0))
    examples = load_task(task).splits["calibration"]
    order = np.random.default_rng(0).permutation(len(examples))
    halves = [[examples[at] for at in order[start::2]] for start in (0, 1)]
    found: dict[str, list[tuple[Mapping[str, float], list[Prediction]]]] = {}
    for fitted_on, judged_on in (halves, halves[::-1]):
        own = fit_temperatures(model, tokenizer, fitted_on)
        gold = TemperatureScaling().fit(*answer_logits(model, tokenizer, fitted_on))
        for way, values in {
            "none": {},
            "gold tokens": dict.fromkeys(definitions, gold.temperature_),
            "as it is judged": {name: own[name].temperature_ for name in definitions},
        }.items():
            settings = ScoreSettings(temperature=values)
            rows = score(model, tokenizer, judged_on, settings)
            found.setdefault(way, []).append((values, rows))
    return {
        name: {way: summary(name, parts) for way, parts in found.items()} for name in definitions
    }


def summary(name: str, parts: list[tuple[Mapping[str, float], list[Prediction]]]) -> dict[str, Any]:
    """Of both halves together."""
    rows = [row for _, half in parts for row in half]
    confidence, correct = [row.confidence[name] for row in rows], [row.correct for row in rows]
    return {
        "temperatures": [values.get(name, 1.0) for values, _ in parts],
        "n": len(rows),
        "ece": expected_calibration_error(confidence, correct),
        "brier": brier_score(confidence, correct),
    }


def main() -> None:
    """Train, fit, judge, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=Path, default=Path("runs/temperatures"))
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    found = {task: judged(task, names, options.runs) for task, names in DEFINITIONS.items()}
    write_json(options.output, {"results": found, "code": code_state(), "versions": versions()})


if __name__ == "__main__":
    main()
