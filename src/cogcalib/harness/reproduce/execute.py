"""Run a plan phase by phase, and choose between the phases.

1  every place: tasks checked, base model probed, questions chosen
2  every alpha of the grid on the calibration split; all that has no alpha to choose
3  the penalties at the alpha chosen
4  what rests on several trainings or on the base model, and post-hoc calibration of the best
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from cogcalib.harness.config import DEFAULT_RULE, Config, Method, Rule
from cogcalib.harness.config.methods import split_posthoc, with_posthoc
from cogcalib.harness.config.read_config import explain
from cogcalib.harness.reproduce.cell import lock_path
from cogcalib.harness.reproduce.definitions import Best
from cogcalib.harness.reproduce.dropping import Dropping
from cogcalib.harness.reproduce.kept_rows import read_rows
from cogcalib.harness.reproduce.plan import Place, Plan, folder_name
from cogcalib.harness.reproduce.planned_cells import (
    Cell,
    analysis_cells,
    baseline_cells,
    distinct,
    prepare_cells,
    row_cells,
    trial_cells,
)
from cogcalib.harness.reproduce.workers import Failure, Workers
from cogcalib.harness.run_folder import RunFolder
from cogcalib.harness.selection import Trial, select, trials_of_rows
from cogcalib.harness.stages import check_methods, open_folder, unfit_base
from cogcalib.harness.tuning import Tuned, candidates, choose_alpha, read_trial
from cogcalib.records import InputError, input_errors

Resolved = Mapping[str, str]
"""Row -> the method behind it: ``cols`` -> ``cols@0.1``."""


@dataclass(frozen=True)
class ExecutionOptions:
    """How a plan is executed.

    Attributes:
        jobs: Processes at once.
        rule: How alphas, and the best of several methods, are chosen, see
            `cogcalib.harness.selection`.
        data_dir: Folder of local data sets.
        gpus: Identifiers of the GPUs to use; empty on a CPU.
        drop_adapters: Remove trained weights once no cell of the plan needs them.
    """

    jobs: int = 1
    rule: Rule = DEFAULT_RULE
    data_dir: Path | None = None
    gpus: tuple[str, ...] = ()
    drop_adapters: bool = False


@dataclass
class PlanOutcome:
    """What came of a plan.

    Attributes:
        plan: The plan.
        resolved: Path of a place -> its rows.
        choices: Path of a place -> alphas chosen there.
        trials: Path of a place -> the trials they rest on.
        failures: Cells that failed.
        left_out: Rows without an alpha or a choice, and why.
        refused: Rows whose method does not apply, by what was measured, and why.
    """

    plan: Plan
    resolved: dict[Path, dict[str, str]] = field(default_factory=dict)
    choices: dict[Path, list[Tuned]] = field(default_factory=dict)
    trials: dict[Path, list[Trial]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def reproduce(plan: Plan, options: ExecutionOptions, console: Console) -> PlanOutcome:
    """Run every cell of a plan that is not finished.

    A cell that fails does not stop the others; what rests on it is left out, and said to be.

    Raises:
        InputError: If a method cannot be used as configured; nothing was run then. Also if no run
            folder could be prepared.
    """
    check(plan)
    outcome = PlanOutcome(plan)
    logs = plan.places[0].path.parent / "logs"
    with Workers(options.jobs, logs, options.gpus, options.data_dir) as workers:
        dropping = Dropping(plan) if options.drop_adapters else None
        crew = _Crew(workers, console, outcome, dropping)
        crew.run("prepare", prepare_cells(plan))
        if len(outcome.failures) == len(plan.places):
            why = outcome.failures[0].reason
            raise InputError(f"no run folder could be prepared: {why} (the whole logs: {logs})")
        trials = trial_cells(plan)
        taken = {(cell.place.path, cell.method, cell.seed) for cell in trials}
        first: list[Cell] = []
        later: list[Cell] = []
        for place in plan.shown():
            names = [name for name in place.methods if not _waits(plan, place, name)]
            for cell in row_cells(place, names, plan.seeds):
                (later if (place.path, cell.method, cell.seed) in taken else first).append(cell)
        crew.run("trials, and what has no alpha to choose", trials + first)
        _choose(outcome, options.rule)
        for place in plan.shown():
            later += row_cells(place, list(_resolve(outcome, place).values()), plan.seeds)
        crew.know(best=False)
        crew.run("at the alpha chosen", later)
        last = []
        for place in plan.shown():
            resolved = outcome.resolved[place.path]
            best = _best(outcome, place, options.rule)
            resolved |= best
            _leave_out_unfit(outcome, place)
            last += row_cells(place, list(best.values()), plan.seeds)
            last += baseline_cells(place, list(dict.fromkeys(resolved.values())), plan.seeds)
        crew.know(best=True)
        crew.run("on top of others", last)
        kind = plan.table.renderer
        if kind in ("detector", "dynamics"):
            crew.run(
                kind,
                [
                    cell
                    for place in plan.shown()
                    for cell in analysis_cells(
                        kind, place, list(outcome.resolved[place.path].values()), plan.seeds
                    )
                ],
            )
    return outcome


@dataclass
class _Crew:
    """Workers, and who is told."""

    workers: Workers
    console: Console
    outcome: PlanOutcome
    dropping: Dropping | None = None

    def know(self, *, best: bool) -> None:
        """The rows are chosen, and perhaps the best of them: what waited for that may go."""
        if self.dropping is not None:
            self.dropping.know(self.outcome.resolved, best=best)

    def run(self, phase: str, cells: Sequence[Cell]) -> None:
        """Run those cells that leave something to do."""
        failed = [failure.cell for failure in self.outcome.failures]
        keys = {cell.key for cell in failed}
        broken = {cell.place.path for cell in failed if cell.kind == "prepare"}
        wanted = [
            cell
            for cell in distinct(cells)
            if cell.place.path not in broken and cell.key not in keys
        ]
        missing = [cell for cell in wanted if cell.missing()]
        self.console.print(
            f"[bold]{phase}[/bold]: {len(missing)} of {len(wanted)} cells to do", highlight=False
        )
        done = 0
        if self.dropping is not None:  # what a command left that did not drop it
            for cell in wanted:
                if not cell.missing():
                    self.dropping.after(cell)

        def tell(cell: Cell, seconds: float, failure: Failure | None) -> None:
            nonlocal done
            done += 1
            if self.dropping is not None and failure is None:
                self.dropping.after(cell)
            mark = "[red]✗[/]" if failure else "[green]✓[/]"
            why = f": {escape(failure.reason)}" if failure else ""
            self.console.print(
                f"  {mark} {done}/{len(missing)} {escape(cell.label)} [dim]{seconds:.1f} s[/]{why}",
                highlight=False,
                soft_wrap=True,
            )

        def wait(cell: Cell) -> None:
            self.console.print(
                f"  [dim]waiting for another process at {escape(cell.label)}, which holds "
                f"{escape(str(lock_path(cell)))}[/]",
                highlight=False,
                soft_wrap=True,
            )

        self.outcome.failures += self.workers.run(missing, tell, wait) if missing else []


def check(plan: Plan) -> None:
    """Raise before the first cell what every cell would raise.

    Raises:
        InputError: If a method cannot be used as configured, or a run folder is another run's.
    """
    with input_errors():
        for place in plan.places:
            if place.path.exists():
                _open(place)
        for place in plan.shown():
            values = place.config.model_dump(mode="json") | {"methods": place.methods}
            try:
                config = Config.model_validate_json(json.dumps(values))
            except ValidationError as error:
                told = f"{plan.table.name} on {folder_name(place.path)}: {explain(error, Config)}"
                raise InputError(told) from error
            check_methods(config)


def _waits(plan: Plan, place: Place, name: str) -> bool:
    """Whether a row needs an alpha that is yet to be chosen."""
    if place.tuned_at is None:
        return False
    tunable = plan.tunable(next(p for p in plan.places if p.path == place.tuned_at))
    return Method.parse(name).before_posthoc in tunable


def _choose(outcome: PlanOutcome, rule: Rule) -> None:
    """Choose an alpha for every method that has all its trials."""
    plan = outcome.plan
    for place in plan.tuned():
        if not place.path.is_dir():
            continue
        folder = _open(place)
        trials: dict[str, list[Trial]] = {}
        tunable = plan.tunable(place)
        names = ["sft", *(each.name for method in tunable for each in candidates(method))]
        for name in names:
            if all(folder.tune(name, seed).exists() for seed in plan.tune_seeds):
                trials[name] = [read_trial(folder, name, seed) for seed in plan.tune_seeds]
        flat = [trial for rows in trials.values() for trial in rows]
        choices = []
        for method in tunable:
            needed = ["sft", *(each.name for each in candidates(method))]
            if all(name in trials for name in needed):
                choices.append(choose_alpha(method, flat, rule))
            else:
                outcome.left_out.append(f"{place.path.name}: {method.name}, a trial failed")
        outcome.choices[place.path], outcome.trials[place.path] = choices, flat


def choices_made(plan: Plan, rule: Rule) -> dict[Path, dict[str, str]]:
    """Place -> method -> the same at the alpha chosen, where all trials are there already."""
    outcome = PlanOutcome(plan)
    _choose(outcome, rule)
    return {
        path: {choice.method: choice.chosen for choice in choices}
        for path, choices in outcome.choices.items()
    }


def _resolve(outcome: PlanOutcome, place: Place) -> Resolved:
    """The rows of a place with the alphas chosen; those without one are left out."""
    chosen = {each.method: each.chosen for each in _choices(outcome, place)}
    resolved: dict[str, str] = {}
    for name in place.methods:
        before, posthoc = split_posthoc(name)
        if before in chosen:
            resolved[name] = with_posthoc(chosen[before], posthoc)
        elif not _waits(outcome.plan, place, name):
            resolved[name] = name
    outcome.resolved[place.path] = resolved
    return resolved


def _leave_out_unfit(outcome: PlanOutcome, place: Place) -> None:
    """Leave out rows held against a base model that is not calibrated, or that was not asked."""
    resolved = outcome.resolved[place.path]
    rows = [name for name in resolved if Method.read(name).held_against_base]
    if not rows:
        return
    try:
        reason = unfit_base(_open(place), outcome.plan.seeds)
    except FileNotFoundError as error:
        reason = f"no {error.filename}"
    if reason:
        outcome.refused += [f"{folder_name(place.path)}: {name}, {reason}" for name in rows]
        for name in rows:
            del resolved[name]


def _choices(outcome: PlanOutcome, place: Place) -> list[Tuned]:
    return outcome.choices.get(place.tuned_at, []) if place.tuned_at else []


def _best(outcome: PlanOutcome, place: Place, rule: Rule) -> dict[str, str]:
    """Row -> method, for every choice among methods of a place and its post-hoc calibrations."""
    seeds, resolved = outcome.plan.seeds, outcome.resolved[place.path]
    found: dict[str, str] = {}
    for name, spec in place.best.items():
        try:
            best = choose_best(_open(place), spec, resolved, seeds, rule)
        except FileNotFoundError as error:
            outcome.left_out.append(f"{place.path.name}: {name}, no {error.filename}")
            continue
        found[name] = best
        found |= {with_posthoc(name, kind): with_posthoc(best, kind) for kind in spec.posthoc}
    return found


def choose_best(
    folder: RunFolder, spec: Best, resolved: Resolved, seeds: Sequence[int], rule: Rule
) -> str:
    """The method that a rule chooses by the calibration split, means over the seeds; primary ECE.

    Raises:
        FileNotFoundError: If a method has no predictions.
    """
    among = list(dict.fromkeys(resolved[name] for name in spec.among if name in resolved))
    if not among:
        raise FileNotFoundError(2, "missing", str(folder.path))
    trials: list[Trial] = []
    for method in ("sft", *among):
        for seed in seeds:
            if not folder.predictions(method, seed).is_dir():
                raise FileNotFoundError(2, "missing", str(folder.predictions(method, seed)))
            trials += trials_of_rows(read_rows(folder, method, seed))
    return select(among, trials, rule).chosen


def _open(place: Place) -> RunFolder:
    return open_folder(place.config, place.path, resume=True)
