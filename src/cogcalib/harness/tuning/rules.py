"""Strength, margin and support of a penalty, chosen on the calibration split by a stated rule.

    ece    the lowest calibration error among the trials that keep SFT's accuracy
    nll    the lowest negative log-likelihood

Every trial is a training of its own, and predicts nothing but the calibration split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Literal

import numpy as np

from cogcalib.harness.config import Method
from cogcalib.harness.run_folder import RunFolder
from cogcalib.metrics import expected_calibration_error
from cogcalib.records import Prediction
from cogcalib.scoring import primary_definition

Rule = Literal["ece", "nll"]
RULES: tuple[Rule, ...] = ("ece", "nll")
GRID: Mapping[str, tuple[float, ...]] = {
    "label_smoothing": (0.05, 0.1, 0.2, 0.3),
    "margin": (0.1, 0.2, 0.3, 0.5),
    "entropy": (0.1, 0.2, 0.4, 0.8),
}
"""Penalty -> strengths tried. The focal loss has none: its strength is 1 by definition."""
MARGINS: Mapping[str, tuple[float, ...]] = {"vocab": (4.0, 8.0, 16.0), "options": (1.0, 2.0, 4.0)}
"""Support -> margins tried at the strength chosen, in logits."""
ACCURACY_FLOOR = 0.005
"""How much accuracy a trial may lose against SFT under the rule ``ece``, fraction."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One training on the calibration split.

    Attributes:
        method: As trained, strength included; ``sft`` for what the others are held against.
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
class Choice:
    """What was chosen for a method, and why.

    Attributes:
        method: As listed, without a strength.
        chosen: The same with the strength chosen.
        reason: For people.
        at_end: Whether strength or margin is the smallest or largest that was tried.
    """

    method: str
    chosen: str
    reason: str
    at_end: bool = False


def is_tunable(method: Method) -> bool:
    """Whether a method has a strength to choose that its name does not settle."""
    return method.penalty in GRID and method.alpha is None


def candidates(method: Method) -> list[Method]:
    """A method at every strength of the grid, before post-hoc calibration."""
    before = method.before_posthoc
    return [Method.parse(before.at(alpha)) for alpha in GRID[str(method.penalty)]]


def read_trial(folder: RunFolder, method: str, seed: int) -> Trial:
    """Sum up the predictions of a finished trial."""
    (predictions,) = folder.read_predictions(folder.tune(method, seed))
    return measure(predictions, method, seed)


def measure(predictions: Sequence[Prediction], method: str, seed: int) -> Trial:
    """Accuracy, NLL and calibration errors of predictions of the calibration split.

    Raises:
        ValueError: If one is of another split.
    """
    others = {row.split for row in predictions} - {"calibration"}
    if others:
        raise ValueError(f"trials are judged on calibration only, got {', '.join(sorted(others))}")
    correct = np.array([row.correct for row in predictions])
    primary = primary_definition(predictions)
    definitions = sorted(predictions[0].confidence, key=lambda name: name != primary)
    return Trial(
        method=method,
        seed=seed,
        accuracy=float(correct.mean()),
        nll=mean(row.nll for row in predictions),
        ece={
            name: expected_calibration_error([row.confidence[name] for row in predictions], correct)
            for name in definitions
        },
    )


def choose(
    method: Method,
    trials: Sequence[Trial],
    rule: Rule = "ece",
    among: Sequence[Method] | None = None,
) -> Choice:
    """The strength a rule picks for a method.

    Args:
        method: A method of `is_tunable`.
        trials: Those of `among`, and under the rule ``ece`` those of ``sft``; with several seeds
            their mean counts. Others are not looked at.
        rule: ``ece``: the lowest ECE, of the options for ``-options`` and else of the primary
            definition, among those that lose at most `ACCURACY_FLOOR` against SFT; if none does,
            the most accurate. ``nll``: the lowest NLL. Of equals the first.
        among: The method at several strengths, or margins; None: its `candidates`.

    Raises:
        ValueError: If a trial is missing.
    """
    tried = candidates(method) if among is None else among
    grid = [_average(each.name, trials) for each in tried]
    definition = method.support if method.support == "options" else next(iter(grid[0].ece))
    best, reason = _pick(grid, trials, rule, definition)
    chosen = Method.parse(best.method)
    assert isinstance(chosen.alpha, float)
    strengths = [each.alpha for each in tried if isinstance(each.alpha, float)]
    margins = MARGINS[method.support]
    at_end = chosen.alpha in (min(strengths), max(strengths))
    at_end = at_end or chosen.margin in (margins[0], margins[-1])
    reason += "; an end of what was tried" * at_end
    return Choice(method.name, method.at(chosen.alpha, chosen.margin), reason, at_end)


def choose_support(vocab: Choice, options: Choice, trials: Sequence[Trial], rule: Rule) -> Choice:
    """The support a rule picks for a method, each at what was chosen for it; ECE (primary)."""
    names = (choice.chosen.partition("+")[0] for choice in (vocab, options))
    grid = [_average(name, trials) for name in names]
    best, reason = _pick(grid, trials, rule, next(iter(grid[0].ece)))
    chosen = (vocab, options)[grid.index(best)].chosen
    return Choice(vocab.method, chosen, f"{Method.parse(chosen).support}: {reason}")


def _pick(
    grid: Sequence[Trial], trials: Sequence[Trial], rule: Rule, definition: str
) -> tuple[Trial, str]:
    """The trial that a rule picks, and why."""
    if rule == "nll":
        best = min(grid, key=lambda trial: trial.nll)
        return best, f"lowest NLL, {best.nll:.3f}"
    reference = _average("sft", trials).accuracy
    accurate = [t for t in grid if t.accuracy >= reference - ACCURACY_FLOOR - 1e-9]
    if accurate:
        best = min(accurate, key=lambda trial: trial.ece[definition])
        return best, (
            f"lowest ECE ({definition}), {100 * best.ece[definition]:.1f} %, of "
            f"{len(accurate)} of {len(grid)} within {100 * ACCURACY_FLOOR:.1f} points of "
            f"SFT's accuracy, {100 * reference:.1f} %"
        )
    best = max(grid, key=lambda trial: trial.accuracy)
    return best, (
        f"most accurate, {100 * best.accuracy:.1f} %: none within "
        f"{100 * ACCURACY_FLOOR:.1f} points of SFT's accuracy, {100 * reference:.1f} %"
    )


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
        ece={name: mean(row.ece[name] for row in rows) for name in rows[0].ece},
    )
