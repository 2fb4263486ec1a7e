"""The rules of selection: one method out of several, chosen on the calibration split.

    nll    the lowest NLL
    ece    the lowest ECE, which a method reaches by shrinking every confidence alike

Both among the methods within `ACCURACY_FLOOR` of SFT's accuracy; where none is, the most accurate.
The same rules choose alpha, margin and support in ``tune``, the best method of a family in
``reproduce``, and the CogCalib variant that a report singles out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np

from cogcalib.harness.config import Rule
from cogcalib.metrics import expected_calibration_error
from cogcalib.records import Prediction
from cogcalib.scoring import ranked

RULES: Mapping[Rule, str] = {
    "nll": "the lowest NLL at SFT's accuracy on the calibration split",
    "ece": "the lowest ECE at SFT's accuracy on the calibration split",
}
"""Rule -> what it prefers, a noun phrase."""
ACCURACY_FLOOR = 0.005
"""How much accuracy a method may lose against SFT, fraction."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One training on the calibration split.

    Attributes:
        method: As trained, alpha included; ``sft`` for what the others are held against.
        seed: Of the training.
        accuracy: Fraction.
        nll: Nats.
        ece: Confidence definition -> calibration error, fraction; the primary one first.
    """

    method: str
    seed: int
    accuracy: float
    nll: float
    ece: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Selection:
    """The method that a rule chose.

    Attributes:
        chosen: Its name.
        reason: For people.
    """

    chosen: str
    reason: str


def select(among: Sequence[str], trials: Sequence[Trial], rule: Rule) -> Selection:
    """The method that a rule chooses; of equals the first.

    Args:
        among: Names of methods.
        trials: Those of `among` and of ``sft``; with several seeds their mean counts. Others are
            not looked at.
        rule: A key of `RULES`; the ECE is that of a method's primary confidence.

    Raises:
        ValueError: If nothing is to be chosen from, or a method has no trial.
    """
    if not among:
        raise ValueError("among must name at least one method, got none")
    grid = [_average(name, trials) for name in among]
    reference = _average("sft", trials).accuracy
    floor = f"within {100 * ACCURACY_FLOOR:.1f} points of SFT's accuracy, {100 * reference:.1f} %"
    accurate = [trial for trial in grid if trial.accuracy >= reference - ACCURACY_FLOOR - 1e-9]
    if not accurate:
        best = max(grid, key=lambda trial: trial.accuracy)
        reason = f"most accurate, {100 * best.accuracy:.1f} %: none {floor}"
        return Selection(best.method, reason)
    if rule == "nll":
        best = min(accurate, key=lambda trial: trial.nll)
        lowest = f"lowest NLL, {best.nll:.3f}"
    else:
        best = min(accurate, key=lambda trial: next(iter(trial.ece.values())))
        name, error = next(iter(best.ece.items()))
        lowest = f"lowest ECE ({name}), {100 * error:.1f} %"
    return Selection(best.method, f"{lowest}, {_of(len(accurate), len(grid))} {floor}")


def _of(accurate: int, tried: int) -> str:
    """Among how many it was chosen, a phrase before the accuracy that they keep."""
    if tried == 1:
        return "the only one,"
    if accurate == 1:
        return f"the only one of {tried}"
    return f"of {tried}, all" if accurate == tried else f"of the {accurate} of {tried}"


def measure(predictions: Sequence[Prediction], method: str, seed: int) -> Trial:
    """Accuracy, NLL and calibration errors of predictions of the calibration split.

    Raises:
        ValueError: If one is of another split.
    """
    others = {row.split for row in predictions} - {"calibration"}
    if others:
        raise ValueError(f"trials are judged on calibration only, got {', '.join(sorted(others))}")
    correct = np.array([row.correct for row in predictions])
    return Trial(
        method=method,
        seed=seed,
        accuracy=float(correct.mean()),
        nll=mean(row.nll for row in predictions),
        ece={
            name: expected_calibration_error([row.confidence[name] for row in predictions], correct)
            for name in ranked(predictions[0].confidence)
        },
    )


def trials_of_rows(rows: Sequence[Mapping[str, Any]]) -> list[Trial]:
    """The trials that rows of ``metrics.json`` hold: those of the calibration split.

    Rows without an accuracy make no trial; an ECE that is not defined is left out.
    """
    found = []
    for row in rows:
        if row["split"] == "calibration" and row["accuracy"] is not None:
            nll = float("inf") if row["nll"] is None else row["nll"]
            values = {name: row["ece"][name]["value"] for name in ranked(row["ece"])}
            ece = {name: value for name, value in values.items() if value is not None}
            found.append(Trial(str(row["method"]), row["seed"], row["accuracy"], nll, ece))
    return found


def _average(method: str, trials: Sequence[Trial]) -> Trial:
    """The mean over the seeds of a method's trials."""
    rows = [trial for trial in trials if trial.method == method]
    if not rows:
        raise ValueError(f"trials must hold one of {method}, got none")
    return Trial(
        method=method,
        seed=-1,
        accuracy=mean(row.accuracy for row in rows),
        nll=mean(row.nll for row in rows),
        ece={
            name: mean(row.ece[name] for row in rows)
            for name in rows[0].ece
            if all(name in row.ece for row in rows)
        },
    )
