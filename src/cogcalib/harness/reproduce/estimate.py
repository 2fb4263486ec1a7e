"""Estimate of how long a plan will take: from cells that were timed, else from FLOPs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from cogcalib.artifacts import read_json
from cogcalib.harness.config import DEFAULT_RULE, Method, Rule
from cogcalib.harness.config.methods import with_posthoc
from cogcalib.harness.reproduce.cell import timing_path
from cogcalib.harness.reproduce.definitions import load_preset
from cogcalib.harness.reproduce.dynamics import POINTS
from cogcalib.harness.reproduce.execute import choices_made
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
from cogcalib.harness.run_folder import RunFolder
from cogcalib.harness.tuning import candidates, is_tunable
from cogcalib.tasks import summaries

TRAIN, SCORE = 6, 2
"""FLOPs per parameter and token: forward and backward, and forward alone (Kaplan et al. 2020)."""
PREPARE_PASSES = 12
"""Times that a probe reads a training question: four rotations of the options, and more."""
FULL_BYTES = 16
"""Of a weight that is trained itself, its gradient and Adam's state, in float32."""
UNKNOWN_ROWS = 1000
"""Questions of a split whose size nobody stated."""


@dataclass(frozen=True)
class CellEstimate:
    """Seconds of cells of one kind.

    Attributes:
        place: Their run folder, as ``model/name``.
        kind: Their kind.
        cells: How many.
        missing: How many of them are yet to be done.
        seconds: Of one.
        source: Where that comes from.
    """

    place: str
    kind: str
    cells: int
    missing: int
    seconds: float
    source: str


def estimates(plan: Plan, rule: Rule = DEFAULT_RULE) -> list[CellEstimate]:
    """By place and kind, with the rows that rest on a choice counted as one cell a row and seed."""
    found = []
    every = all_cells(plan, rule)
    for place in plan.places:
        cells = [cell for cell in every if cell.place is place]
        for kind in dict.fromkeys(cell.kind for cell in cells):
            here = [cell for cell in cells if cell.kind == kind]
            seconds, source = _seconds(plan, here)
            missing = sum(cell.missing() for cell in here)
            name = folder_name(place.path)
            found.append(CellEstimate(name, kind, len(here), missing, seconds, source))
    return found


def all_cells(plan: Plan, rule: Rule = DEFAULT_RULE) -> list[Cell]:
    """Every cell; an alpha yet to be chosen is stood for by the first of the grid."""
    cells = prepare_cells(plan) + trial_cells(plan)
    chosen = choices_made(plan, rule)
    for place in plan.shown():
        made = chosen.get(place.tuned_at, {}) if place.tuned_at else {}
        names = [_with_alpha(place, name, made) for name in place.methods]
        cells += row_cells(place, names, plan.seeds)
        cells += baseline_cells(place, names, plan.seeds)
        kind = plan.table.renderer
        if kind in ("detector", "dynamics"):
            cells += analysis_cells(kind, place, names, plan.seeds)
    return distinct(cells)


def _with_alpha(place: Place, name: str, made: Mapping[str, str]) -> str:
    method = Method.parse(name)
    if place.tuned_at is None or not is_tunable(method):
        return name
    before = method.before_posthoc.name
    return with_posthoc(made.get(before, candidates(method)[0].name), method.posthoc or "")


def _seconds(plan: Plan, cells: list[Cell]) -> tuple[float, str]:
    """Median of the finished cells of this kind in any place of this model, else from FLOPs."""
    root, kind = cells[0].place.path.parent, cells[0].kind
    own = [path for cell in cells if (path := timing_path(cell)).exists()]
    others = (path for place in sorted(root.glob("*")) for path in RunFolder(place).cells())
    own = own or [path for path in others if path.stem == kind or path.stem.startswith(f"{kind}-")]
    timed = [_read(path) for path in own]
    if timed:
        return median(timed), f"measured, {len(timed)} cells"
    preset = plan.preset
    if cells[0].place.model != preset.name:
        preset = load_preset(cells[0].place.model)
    flops = median(_flops(cell, preset.parameters, preset.tokens) for cell in cells)
    return flops / preset.rate.flops, f"FLOPs at an assumed {preset.rate.flops:.0e}/s"


def _read(path: Path) -> float:
    seconds: float = read_json(path, dict)["wall"]
    return seconds


def _flops(cell: Cell, parameters: float, tokens: int) -> float:
    config, passes = cell.place.config, 1
    per_question = parameters * tokens
    test = _rows(cell.place, "test")
    calibration = _rows(cell.place, "calibration")
    if cell.kind == "prepare":
        return SCORE * per_question * _rows(cell.place, "train") * PREPARE_PASSES
    train = config.train
    read = train.steps * train.batch_size * train.gradient_accumulation
    trained = TRAIN * per_question * read
    if cell.kind == "member":
        return trained
    if cell.kind == "dynamics":
        looked_at = _rows(cell.place, "train") + calibration
        return trained + SCORE * per_question * looked_at * (POINTS + 1)
    if cell.kind == "detector":
        return SCORE * per_question * (calibration + test)
    if cell.kind == "trial":
        return trained + SCORE * per_question * calibration
    if cell.kind == "baseline":
        passes, trained = config.baselines.members, 0.0
    elif cell.method == "mc_dropout":
        passes = config.baselines.passes
    scored = SCORE * per_question * (calibration + test) * passes * max(1, len(cell.predicted))
    return trained + scored


def _rows(place: Place, split: str) -> int:
    """Questions of a split; of the test splits of all tasks together."""
    tasks = place.config.tasks

    def of(name: str) -> int:
        return _sizes().get(name, {}).get(split, UNKNOWN_ROWS)

    limit = tasks.limit.get(split)  # type: ignore[call-overload]
    own = min(of(tasks.train), limit) if limit else of(tasks.train)
    return own + (sum(of(name) for name in tasks.out_of_domain) if split == "test" else 0)


@cache
def _sizes() -> dict[str, Mapping[str, int]]:
    """Task -> split -> rows, without loading a data set."""
    return {line.name: line.rows for line in summaries()}


def show_plan(plan: Plan, jobs: int, console: Console, rule: Rule = DEFAULT_RULE) -> None:
    """Print what would run, and for how long."""
    grid = Grid(box=None, pad_edge=False)
    for head in ("run folder", "cells", "of them to do", "seconds each", "hours", "estimated from"):
        grid.add_column(
            head, justify="left" if head in ("run folder", "estimated from") else "right"
        )
    total = 0.0
    for each in estimates(plan, rule):
        hours = each.missing * each.seconds / 3600
        total += hours
        grid.add_row(
            escape(f"{each.place}: {each.kind}"),
            str(each.cells),
            str(each.missing),
            f"{each.seconds:.1f}",
            f"{hours:.2f}",
            each.source,
        )
    names = map(escape, (plan.table.name, plan.preset.name, plan.table.question))
    console.print("\n[bold]{}[/] on {}: {}\n".format(*names))
    console.print(grid)
    chosen = sum(len(place.best) for place in plan.places) * len(plan.seeds)
    if chosen:
        console.print(f"\nand post-hoc calibration of {chosen} chosen models, minutes at most")
    if any(place.config.model.lora is None for place in plan.shown()):
        size = FULL_BYTES * plan.preset.parameters / 1e9
        console.print(
            f"\n[yellow]every weight is trained in one process: {size:,.1f} GB for weights, "
            "gradients and Adam's state[/]"
        )
    console.print(f"FLOPs: {plan.preset.rate.device}", highlight=False)
    console.print(
        f"\n{_duration(total)} of work, {_duration(total / jobs)} in {jobs} "
        f"process{'es' * (jobs > 1)}; nothing was run\n"
    )


def _duration(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{math.ceil(60 * hours)} minutes"
