"""Strength of a penalty, chosen on the calibration split by a stated rule.

    ece    the lowest calibration error among the trials that keep SFT's accuracy
    nll    the lowest negative log-likelihood

Every trial is a training of its own, and predicts nothing but the calibration split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Literal

import numpy as np
from rich.console import Console

from cogcalib import stages
from cogcalib.config import Config, Method, dump_config
from cogcalib.metrics import expected_calibration_error
from cogcalib.records import InputError, Prediction, write_json, write_text
from cogcalib.run_folder import RunFolder
from cogcalib.scoring import primary_definition

Rule = Literal["ece", "nll"]
RULES: tuple[Rule, ...] = ("ece", "nll")
GRID: Mapping[str, tuple[float, ...]] = {
    "label_smoothing": (0.05, 0.1, 0.2, 0.3),
    "margin": (0.1, 0.2, 0.3, 0.5),
    "entropy": (0.1, 0.2, 0.4, 0.8),
}
"""Penalty -> strengths tried. The focal loss has none: its strength is 1 by definition."""
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
    """

    method: str
    chosen: str
    reason: str


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


def choose(method: Method, trials: Sequence[Trial], rule: Rule = "ece") -> Choice:
    """The strength a rule picks for a method.

    Args:
        method: A method of `is_tunable`.
        trials: Those of its `candidates`, and under the rule ``ece`` those of ``sft``; with several
            seeds their mean counts. Others are not looked at.
        rule: ``ece``: the lowest ECE, of the options for ``-options`` and else of the primary
            definition, among the strengths that lose at most `ACCURACY_FLOOR` against SFT; if none
            does, the most accurate. ``nll``: the lowest NLL. Of equals the weakest.

    Raises:
        ValueError: If a trial is missing.
    """
    grid = [_average(each.name, trials) for each in candidates(method)]
    if rule == "nll":
        best = min(grid, key=lambda trial: trial.nll)
        reason = f"lowest NLL, {best.nll:.3f}"
    else:
        definition = method.support if method.support == "options" else next(iter(grid[0].ece))
        reference = _average("sft", trials).accuracy
        accurate = [t for t in grid if t.accuracy >= reference - ACCURACY_FLOOR - 1e-9]
        if accurate:
            best = min(accurate, key=lambda trial: trial.ece[definition])
            reason = (
                f"lowest ECE ({definition}), {100 * best.ece[definition]:.1f} %, of "
                f"{len(accurate)} of {len(grid)} within {100 * ACCURACY_FLOOR:.1f} points of "
                f"SFT's accuracy, {100 * reference:.1f} %"
            )
        else:
            best = max(grid, key=lambda trial: trial.accuracy)
            reason = (
                f"most accurate, {100 * best.accuracy:.1f} %: none within "
                f"{100 * ACCURACY_FLOOR:.1f} points of SFT's accuracy, {100 * reference:.1f} %"
            )
    alpha = Method.parse(best.method).alpha
    assert isinstance(alpha, float)
    return Choice(method.name, method.at(alpha), reason)


def tune(
    config: Config,
    root: Path,
    console: Console,
    *,
    rule: Rule = "ece",
    seeds: Sequence[int] | None = None,
    data_dir: Path | None = None,
) -> Path:
    """Choose the strength of every method that has one and names none.

    Goes on where it was interrupted. Predicts no test question.

    Args:
        config: What is to be run afterwards.
        root: The trials stand in ``<root>/<name>-tune``.
        console: Shows progress.
        rule: See `choose`.
        seeds: Of the trials, whose mean decides; None: the configuration's.
        data_dir: Folder of local data sets.

    Returns:
        The folder, with ``tune.json`` (every trial, every choice and its reason) and
        ``tuned.yaml`` (`config` with the strengths chosen, named ``<name>-tuned``).

    Raises:
        InputError: As `cogcalib.stages.begin`; also if no method has a strength to choose.
    """
    methods = [Method.parse(name) for name in config.methods]
    tunable = [method for method in methods if is_tunable(method)]
    if not tunable:
        raise InputError("methods: none has a strength to choose that its name does not settle")
    begun = stages.begin(config, root / f"{config.name}-tune", console, resume=True,
                         data_dir=data_dir)  # fmt: skip
    tried = {"sft": Method.parse("sft")}
    tried |= {each.name: each for method in tunable for each in candidates(method)}
    trials = []
    for seed in config.seeds if seeds is None else seeds:
        for method in tried.values():
            stages.train(begun.work, method, seed, begun.splits, begun.knowledge)
            stages.try_out(begun.work, method, seed, begun.splits)
            trials.append(read_trial(begun.work.folder, method.name, seed))
    choices = [choose(method, trials, rule) for method in tunable]
    write_tuned(begun.work.folder.path, config, rule, trials, choices)
    return begun.work.folder.path


def write_tuned(
    path: Path, config: Config, rule: Rule, trials: Sequence[Trial], choices: Sequence[Choice]
) -> None:
    """Write ``tune.json`` and ``tuned.yaml`` into a folder."""
    record: dict[str, Any] = {
        "rule": rule,
        "grid": GRID,
        "accuracy_floor": ACCURACY_FLOOR,
        "choices": [asdict(choice) for choice in choices],
        "trials": [asdict(trial) for trial in trials],
    }
    write_json(path / "tune.json", record)
    chosen = {choice.method: choice.chosen for choice in choices}
    names = tuple(chosen.get(name, name) for name in config.methods)
    tuned = config.model_copy(update={"name": f"{config.name}-tuned", "methods": names})
    write_text(path / "tuned.yaml", dump_config(tuned))


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
