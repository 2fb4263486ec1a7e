"""The search: trainings of every candidate, judged on the calibration split alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from cogcalib.artifacts import read_json
from cogcalib.harness import stages
from cogcalib.harness.config import DEFAULT_RULE, Config, Method, Rule, dump_config
from cogcalib.harness.config.train_sections import TrainSection
from cogcalib.harness.run_folder import RunFolder
from cogcalib.harness.selection import ACCURACY_FLOOR, Trial
from cogcalib.harness.tuning.grid import (
    GRID,
    MARGINS,
    Tuned,
    candidates,
    choose_alpha,
    choose_supports,
    is_tunable,
    read_trial,
    recommend,
)
from cogcalib.records import InputError, write_json, write_text


def tune(
    config: Config,
    root: Path,
    console: Console,
    *,
    rule: Rule = DEFAULT_RULE,
    seeds: Sequence[int] | None = None,
    budget: int | None = None,
    data_dir: Path | None = None,
) -> Path:
    """Choose the alpha of every method that has one and names none.

    First every alpha of `GRID` is tried, then, at the alpha chosen, every margin of `MARGINS`;
    where a method is listed over both supports, the better is reported. Goes on where it
    was interrupted. Predicts no test question.

    Args:
        config: What is to be run afterwards.
        root: The trials stand in ``<root>/<name>-tune``.
        console: Shows progress.
        rule: See `cogcalib.harness.selection`.
        seeds: Of the trials, whose mean decides; None: the configuration's.
        budget: Trainings of each seed at most, SFT apart; None: as many as there are to try. Less
            than all leaves alphas out, the same number for every method, and then margins.
        data_dir: Folder of local data sets.

    Returns:
        The folder, with ``tune.json`` (every trial, every choice and its reason) and
        ``tuned.yaml`` (`config` with the alphas chosen, named ``<name>-tuned``, whose report
        singles out a variant by the same rule).

    Raises:
        InputError: As `stages.begin`; also if no method has an alpha to choose, or the budget
            has less than a training for each.
    """
    methods = [Method.parse(name) for name in config.methods]
    tunable = [method for method in methods if is_tunable(method)]
    if not tunable:
        raise InputError("methods: none has an alpha to choose that its name does not settle")
    tried_seeds = tuple(config.seeds if seeds is None else seeds)
    if any(seed < 0 for seed in tried_seeds):
        raise InputError(f"seeds must be at least 0, got {', '.join(map(str, tried_seeds))}")
    before = dict.fromkeys(method.before_posthoc for method in tunable)
    grids = _within(budget, list(before))
    path = root / f"{config.name}-tune"
    with ExitStack() as end:
        begun = stages.begin(config, path, console, resume=True, data_dir=data_dir, until=end)
        trials = _Trials(begun, tried_seeds)
        _search(trials, grids, rule, budget)
    choices = [choose_alpha(m, trials.found, rule, grids[m.before_posthoc.name]) for m in tunable]
    search = {
        "rule": rule,
        "seeds": tried_seeds,
        "budget": budget,
        "tried": {name: [each.name for each in grid] for name, grid in grids.items()},
    }
    folder = begun.context.folder
    if replaced := _other_search(folder, search):
        console.print(f"  [yellow]replaces the choice made with {replaced}[/]", highlight=False)
    write_tuned(folder, config, search, trials.found, choices)
    return folder.path


@dataclass
class _Trials:
    """Trainings that are tried, and what came of them."""

    begun: stages.Begun
    seeds: Sequence[int]
    by_method: dict[str, list[Trial]] = field(default_factory=dict)

    @property
    def found(self) -> list[Trial]:
        """All trials, method by method."""
        return [trial for rows in self.by_method.values() for trial in rows]

    def add(self, methods: Iterable[Method]) -> None:
        """Train methods with every seed, and judge them on the calibration split."""
        begun = self.begun
        for seed in self.seeds:
            for method in methods:
                stages.train(begun.context, method, seed, begun.splits, begun.knowledge)
                stages.try_out(begun.context, method, seed, begun.splits)
                trial = read_trial(begun.context.folder, method.name, seed)
                self.by_method.setdefault(method.name, []).append(trial)


def _search(
    trials: _Trials, grids: dict[str, list[Method]], rule: Rule, budget: int | None
) -> None:
    """Try SFT and every grid; then put margins at the alpha chosen into each grid, and try them."""
    trials.add([Method.parse("sft"), *(each for grid in grids.values() for each in grid)])
    left = None if budget is None else budget - sum(map(len, grids.values()))
    for name, grid in grids.items():
        chosen = choose_alpha(Method.parse(name), trials.found, rule, grid).chosen
        margins = _margins(trials.begun.context.config, Method.parse(chosen))[:left]
        left = None if left is None else left - len(margins)
        trials.add(margins)
        grid += margins


def _other_search(folder: RunFolder, search: Mapping[str, Any]) -> str:
    """How the choice that stands in a folder was made, if otherwise; else empty."""
    path = folder.tune_record
    if not path.exists():
        return ""
    held = read_json(path, dict, "remove it: the same command makes it again")
    differing = {
        name: held.get(name)
        for name in ("rule", "seeds", "budget")
        if held.get(name) != json.loads(json.dumps(search[name]))
    }
    return ", ".join(f"{name} {value}" for name, value in differing.items())


def _within(budget: int | None, methods: Sequence[Method]) -> dict[str, list[Method]]:
    """The alphas tried of each method; with a budget those next to the default of the sweep."""
    each = None if budget is None else budget // len(methods)
    if each is not None and each < 1:
        raise InputError(
            f"budget must be at least {len(methods)}, a training for each method, got {budget}"
        )
    grids = {}
    for method in methods:
        usual = TrainSection().alpha_of(method)
        assert isinstance(usual, float)
        # Of two as far away the weaker; to nine digits, for 0.3 - 0.2 is not 0.1.
        away = {one: round(abs(float(one.alpha or 0) - usual), 9) for one in candidates(method)}
        near = sorted(away, key=away.__getitem__)[:each]
        grids[method.name] = [one for one in candidates(method) if one in near]
    return grids


def _margins(config: Config, chosen: Method) -> list[Method]:
    """A method at other margins than the configuration's, with the alpha it has."""
    if chosen.penalty != "margin":
        return []
    usual = config.train.margin_of(chosen)
    assert isinstance(chosen.alpha, float)
    names = [chosen.at(chosen.alpha, m) for m in MARGINS[chosen.support] if m != usual]
    return [Method.parse(name) for name in names]


def write_tuned(
    folder: RunFolder,
    config: Config,
    search: Mapping[str, Any],
    trials: Sequence[Trial],
    choices: Sequence[Tuned],
) -> None:
    """Write ``tune.json`` and ``tuned.yaml`` into a folder; `search` says how it was looked."""
    recommended = recommend(choices, trials, search["rule"])
    record: dict[str, Any] = {
        **search,
        "grid": GRID,
        "margins": MARGINS,
        "accuracy_floor": ACCURACY_FLOOR,
        "choices": [asdict(choice) for choice in choices],
        "supports": [asdict(each) for each in choose_supports(choices, trials, search["rule"])],
        "recommended": recommended and asdict(recommended),
        "trials": [asdict(trial) for trial in trials],
    }
    write_json(folder.tune_record, record)
    chosen = {choice.method: choice.chosen for choice in choices}
    names = tuple(chosen.get(name, name) for name in config.methods)
    report = config.report.model_copy(update={"rule": search["rule"]})
    changes = {"name": f"{config.name}-tuned", "methods": names, "report": report}
    tuned = config.model_copy(update=changes)
    write_text(folder.tuned_config, dump_config(tuned))
