"""The verdict on a method: is its confidence to be trusted more than another's?

A method is trustworthy against another (plain fine-tuning, unless said) if

- its ECE is lower under every confidence definition that both have,
- its Brier score, NLL and AURC are not worse (of the primary confidence: in multiple choice
  ``options``, as the NLL is over the options),
- its accuracy is equal: at most `EQUAL_ACCURACY` lower, or not distinguishable.

Fine-tuning paid, against the base model, if accuracy, Brier score or NLL improved and none of them
and of AURC got worse. Where some improved and others did not hold, it paid in part.

Lower, worse and distinguishable mean that the 95 % interval of the paired difference excludes 0.
Shrinking every confidence alike lowers an ECE and helps nobody: ECE alone decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cogcalib.harness.config import Method
from cogcalib.harness.report.resampled import (
    Floats,
    Resampled,
    difference,
    is_equal,
    resample,
)
from cogcalib.harness.report.run_results import Run
from cogcalib.harness.report.summary import TaskSummary
from cogcalib.metrics import PairedDifference, resample_weights
from cogcalib.records import Prediction

EQUAL_ACCURACY = 0.005
"""How much lower an accuracy may be and still be called equal, fraction."""
RESAMPLES = 1000
RANKED = ("brier", "nll", "aurc")
"""Metrics that must not get worse."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One method against another on the same test questions.

    Attributes:
        method, against: The two.
        differences: Metric (``accuracy``, ``ece.vocab`` ..., and `RANKED`) -> that of `method`
            minus that of `against`; fractions, NLL in nats. A metric that one of them lacks is
            left out.
    """

    method: str
    against: str
    differences: Mapping[str, PairedDifference]

    @property
    def errors(self) -> dict[str, PairedDifference]:
        """Confidence definition -> difference of the ECEs."""
        named = self.differences.items()
        return {name.removeprefix("ece."): each for name, each in named if name.startswith("ece.")}

    @property
    def failing(self) -> tuple[str, ...]:
        """The metrics by which the method is not trustworthy."""
        failed = [f"ece.{name}" for name, each in self.errors.items() if not each.high < 0]
        # Infinite for both, an NLL has no difference, and nobody knows that it is not worse.
        undefined = {name for name in self.ranked if math.isnan(self.differences[name].difference)}
        failed += [name for name in self.ranked if self.is_worse(name) or name in undefined]
        accuracy = self.differences["accuracy"]
        if accuracy.difference < -EQUAL_ACCURACY and accuracy.high < 0:
            failed.append("accuracy")
        return tuple(failed)

    @property
    def trustworthy(self) -> bool:
        """Whether the method meets the definition."""
        return not self.failing

    @property
    def equal(self) -> bool:
        """Whether both answer alike: every metric is the same on every resample."""
        return all(is_equal(each) or math.isnan(each.difference)
                   for each in self.differences.values())  # fmt: skip

    @property
    def improved(self) -> tuple[str, ...]:
        """The metrics, accuracy and `RANKED`, that are significantly better."""
        better = ("accuracy",) if self.differences["accuracy"].low > 0 else ()
        return (*better, *(each for each in self.ranked if self.is_better(each)))

    @property
    def worsened(self) -> tuple[str, ...]:
        """The metrics, accuracy and `RANKED`, that are significantly worse."""
        worse = ("accuracy",) if self.differences["accuracy"].high < 0 else ()
        return (*worse, *(each for each in self.ranked if self.is_worse(each)))

    @property
    def ranked(self) -> tuple[str, ...]:
        """Those of `RANKED` that both have."""
        return tuple(each for each in RANKED if each in self.differences)

    @property
    def paid(self) -> bool | None:
        """Whether the method was worth its training against the other; None: in part.

        True if accuracy, Brier score or NLL improved and nothing got worse; False if nothing
        improved.
        """
        if not self.improved:
            return False
        return True if set(self.improved) - {"aurc"} and not self.worsened else None

    def is_worse(self, metric: str) -> bool:
        """Whether a metric of `RANKED` is significantly higher than the other's."""
        return self.differences[metric].low > 0

    def is_better(self, metric: str) -> bool:
        """Whether a metric of `RANKED` is significantly lower than the other's."""
        return self.differences[metric].high < 0


def verdict_on(method: str, one: Resampled, against: str, other: Resampled) -> Verdict | None:
    """The verdict on one method against another, from their resampled metrics.

    Returns:
        None where the two have no seed in common, or answer different questions.
    """
    if one.ids != other.ids or not set(one.seeds) & set(other.seeds):
        return None
    shared = [name for name in one.values if name in other.values]
    if any(Method.read(each).maps_confidence for each in (method, against)):
        shared = [name for name in shared if name != "nll"]
    return Verdict(method, against, {name: difference(one, other, name) for name in shared})


class Judge:
    """Verdicts on the methods of one run on one task; each method is read and resampled once."""

    def __init__(self, run: Run, task: TaskSummary) -> None:
        self._run, self._task = run, task
        self._resampled: dict[str, Resampled | None] = {}
        self._weights: Floats | None = None

    def compare(self, method: str, against: str = "sft") -> Verdict | None:
        """The verdict on one method against another.

        Returns:
            None where one of them is missing, or the two have no seed in common whose predictions
            answer the same questions.
        """
        if method not in self._task or against not in self._task:
            return None
        one, other = self._of(method), self._of(against)
        if one is None or other is None:
            return None
        return verdict_on(method, one, against, other)

    def _of(self, method: str) -> Resampled | None:
        if method not in self._resampled:
            runs = self._predictions(method)
            alike = len({frozenset(row.id for row in rows) for rows in runs.values()}) == 1
            self._resampled[method] = self._resample(runs) if alike else None
        return self._resampled[method]

    def _resample(self, runs: Mapping[int, Sequence[Prediction]]) -> Resampled:
        """The metrics of a method on the resamples that all methods share."""
        questions = len(next(iter(runs.values())))
        if self._weights is None or self._weights.shape[1] != questions:
            self._weights = resample_weights(questions, RESAMPLES)
        return resample(runs, RESAMPLES, ranking=RESAMPLES, weights=self._weights)

    def _predictions(self, method: str) -> dict[int, list[Prediction]]:
        task, run = self._task, self._run
        return {
            seed: run.predictions(method, seed, task.task, task.split)
            for seed in task[method].seeds
            if seed is not None
            and run.predictions_path(method, seed, task.task, task.split).is_file()
        }
