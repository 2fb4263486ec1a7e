"""Is the promise of `cogcalib guard` kept? Nominal against realised error over simulated draws.

Two worlds whose true error at every threshold is known: confidences that are calibrated, and ones
far above the accuracy. In each draw n held-out questions give a threshold; the true error among
answered questions from it on is compared with the target. Beside it MAPIE's control of precision,
which of answers of confidence at least t is one minus the same error, on the first draws.

    python experiments/guard/simulate.py --mapie-draws 300    # pip install mapie; about ten minutes
    python experiments/guard/simulate.py --fixed-sequence 500  # two minutes

write guard-simulation.json and guard-fixed-sequence.json below docs/results, for docs/guard.md.
In the second MAPIE tests in a fixed sequence, as we do, from the confidence on that a tenth of the
world has: known here, and to be known beforehand.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cogcalib.posthoc.risk_control import START, control_selective_error
from cogcalib.provenance import code_state, versions
from cogcalib.records import write_text

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
TARGETS, SIZES, DELTA = (0.02, 0.05, 0.1), (200, 500, 2000), 0.1
FLOOR = 0.25
"""Of confidence and accuracy: chance among four options."""
GRID = np.linspace(0, 0.999, 200)
"""Thresholds that MAPIE tests."""
Floats = NDArray[np.float64]


def calibrated(confidence: Floats) -> Floats:
    """Accuracy at a confidence: the same."""
    return confidence


def overconfident(confidence: Floats) -> Floats:
    """Accuracy at a confidence: far below, but for the highest."""
    return FLOOR + (1 - FLOOR) * ((confidence - FLOOR) / (1 - FLOOR)) ** 4


WORLDS: dict[str, tuple[Callable[[Floats], Floats], float]] = {
    "calibrated": (calibrated, 3.0),
    "overconfident": (overconfident, 4.0),
}
"""World -> accuracy at a confidence, and how near to 1 confidences lie (Beta(a, 1))."""


class World:
    """Confidences and correctness to draw, and the true error from every threshold on."""

    def __init__(self, name: str) -> None:
        self.accuracy, self.shape = WORLDS[name]
        # Quantiles of the confidence; the error from a quantile on is a mean over those above.
        ranks = (np.arange(1_000_000) + 0.5) / 1_000_000
        self._confidence = FLOOR + (1 - FLOOR) * ranks ** (1 / self.shape)
        wrong = 1 - self.accuracy(self._confidence)
        self._error = np.cumsum(wrong[::-1])[::-1] / np.arange(len(wrong), 0, -1)

    def draw(self, generator: np.random.Generator, n: int) -> tuple[Floats, NDArray[np.bool_]]:
        confidence = FLOOR + (1 - FLOOR) * generator.beta(self.shape, 1, n)
        return confidence, generator.random(n) < self.accuracy(confidence)

    def sequence(self) -> Floats:
        """Thresholds of `GRID`, the strictest first, from the one that `START` of answers reach."""
        strictest = self._confidence[int((1 - START) * len(self._confidence))]
        return GRID[strictest >= GRID][::-1]

    def error_from(self, threshold: float) -> float:
        place = np.searchsorted(self._confidence, threshold)
        return float(self._error[min(place, len(self._error) - 1)])

    def coverage_from(self, threshold: float) -> float:
        return float(1 - np.searchsorted(self._confidence, threshold) / len(self._confidence))


def by_mapie(
    confidence: Floats,
    correct: NDArray[np.bool_],
    target: float,
    sequence: Floats | None = None,
) -> float | None:
    """The smallest threshold that MAPIE's control of precision calls valid.

    Args:
        confidence, correct: Of the held-out answers.
        target: Largest error.
        sequence: Thresholds to test one after the other until one fails; None: those of `GRID`,
            corrected for their number.
    """
    from mapie.risk_control import BinaryClassificationController

    controller = BinaryClassificationController(
        lambda values: np.column_stack([1 - values, values]),
        "precision",
        1 - target,
        confidence_level=1 - DELTA,
        list_predict_params=GRID if sequence is None else sequence,
        fwer_method="bonferroni_holm" if sequence is None else "fixed_sequence",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said where no threshold is valid
        controller.calibrate(confidence, correct.astype(int))
    valid = np.asarray(controller.valid_predict_params)
    return float(valid.min()) if valid.size else None


def summary(world: World, thresholds: Sequence[float | None], target: float) -> dict[str, Any]:
    """How often the true error was above the target, and what was answered."""
    errors = [world.error_from(t) for t in thresholds if t is not None]
    coverage = [0.0 if t is None else world.coverage_from(t) for t in thresholds]
    return {
        "draws": len(thresholds),
        "violations": round(sum(error > target for error in errors) / len(thresholds), 5),
        "promised": round(len(errors) / len(thresholds), 5),
        "error": round(float(np.mean(errors)), 5) if errors else None,
        "coverage": round(float(np.mean(coverage)), 5),
    }


def simulate(
    draws: int, mapie_draws: int, *, fixed_sequence: bool = False
) -> Iterator[dict[str, Any]]:
    """A row for each world, size and target."""
    for name in WORLDS:
        world = World(name)
        sequence = world.sequence() if fixed_sequence else None
        base = round(world.error_from(0), 5)
        for n in SIZES:
            generator = np.random.default_rng(n)
            found: dict[float, list[float | None]] = {target: [] for target in TARGETS}
            others: dict[float, list[float | None]] = {target: [] for target in TARGETS}
            for draw in range(draws):
                sample = world.draw(generator, n)
                for target in TARGETS:
                    made = control_selective_error(*sample, target, delta=DELTA)
                    found[target].append(made.threshold)
                    if draw < mapie_draws:
                        others[target].append(by_mapie(*sample, target, sequence))
            for target in TARGETS:
                row = {
                    "world": name,
                    "base_error": base,
                    "n": n,
                    "target": target,
                }
                row |= {"ours": summary(world, found[target], target)}
                if mapie_draws:
                    same = found[target][:mapie_draws]
                    row |= {
                        "ours_on_mapie_draws": summary(world, same, target),
                        "mapie": summary(world, others[target], target),
                    }
                print(row, flush=True)
                yield row


def main() -> None:
    """Simulate and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=5000)
    parser.add_argument("--mapie-draws", type=int, default=0)
    parser.add_argument("--fixed-sequence", type=int, default=0, metavar="DRAWS")
    options = parser.parse_args()
    begun = time.perf_counter()
    if fixed := options.fixed_sequence:
        result, words = RESULTS / "guard-fixed-sequence.json", f"--fixed-sequence {fixed}"
        rows = list(simulate(fixed, fixed, fixed_sequence=True))
    else:
        result = RESULTS / "guard-simulation.json"
        words = f"--draws {options.draws} --mapie-draws {options.mapie_draws}"
        rows = list(simulate(options.draws, options.mapie_draws))
    record = {
        "command": f"python experiments/guard/simulate.py {words}",
        "delta": DELTA,
        "rows": rows,
        "minutes": round((time.perf_counter() - begun) / 60, 1),
        "code": code_state(),
        "versions": versions(),
    }
    write_text(result, json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
