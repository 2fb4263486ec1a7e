"""Estimate of how long a plan will take: from cells that were timed, else by `cell_cost`."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from cogcalib.harness.config import DEFAULT_RULE, Method, Rule
from cogcalib.harness.config.methods import with_posthoc
from cogcalib.harness.reproduce.cell import timing_path
from cogcalib.harness.reproduce.cell_cost import CellCost, cell_cost, with_measured
from cogcalib.harness.reproduce.cell_record import read_cell
from cogcalib.harness.reproduce.definitions import Preset
from cogcalib.harness.reproduce.execute import choices_made
from cogcalib.harness.reproduce.measured_rates import measured_rates
from cogcalib.harness.reproduce.plan import Place, Plan, folder_name
from cogcalib.harness.reproduce.planned_cells import (
    Cell,
    analysis_cells,
    baseline_cells,
    distinct,
    prepare_cells,
    row_cells,
    trial_cells,
    weights_of,
)
from cogcalib.harness.run_folder import RunFolder
from cogcalib.harness.stages.whole_training import FULL_BYTES
from cogcalib.harness.terminal_tables import show_table
from cogcalib.harness.tuning import candidates, is_tunable

BYTES = ("disk", "checkpoints")
"""Fields of a `CellCost` that are no seconds."""
CHOSEN, BEST = 2, 3
"""Phases that begin when the alphas, and the best of several methods, are known."""


@dataclass(frozen=True)
class TimedCell:
    """A cell with what it is expected to take.

    Attributes:
        cell: The cell.
        phase: Its phase of `cogcalib.harness.reproduce.execute`: none begins before the last ended.
        cost: By the preset's rates.
        measured: Seconds of cells like it, median; None if none was timed.
        timed: How many cells that rests on.
    """

    cell: Cell
    phase: int
    cost: CellCost
    measured: float | None = None
    timed: int = 0

    @property
    def seconds(self) -> float:
        """Of the whole cell."""
        return self.cost.seconds if self.measured is None else self.measured

    def told(self) -> dict[str, Any]:
        """What a plan as JSON says of it."""
        cell = self.cell
        return {
            "place": folder_name(cell.place.path), "kind": cell.kind, "method": cell.method,
            "seeds": list(cell.seeds), "phase": self.phase, "to_do": cell.missing(),
            "seconds": round(self.seconds, 1), "timed_cells": self.timed,
        }  # fmt: skip


@dataclass(frozen=True)
class CellEstimate:
    """Seconds of cells of one kind.

    Attributes:
        place: Their run folder, as ``model/name``.
        kind: Their kind.
        cells: How many.
        missing: How many of them are yet to be done.
        seconds: Of one of those, on average.
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
    return list(_by_kind(timed_cells(plan, rule)))


def timed_cells(plan: Plan, rule: Rule = DEFAULT_RULE) -> list[TimedCell]:
    """Every cell of a plan, in the order of its phases."""
    presets = {place.model: _preset(plan, place) for place in plan.places}
    known = {place.model: measured_rates(place.path.parent) for place in plan.places}
    probed: set[tuple[str, str]] = set()
    answered: dict[str, set[str]] = {}
    found = []
    for phase, cell in _phases(plan, rule):
        before = answered.setdefault(cell.place.model, set())
        cost = cell_cost(cell, presets[cell.place.model], before)
        if "base" in cell.predicted:
            tasks = cell.place.config.tasks
            before |= {tasks.train, *tasks.out_of_domain}
        rates = known[cell.place.model]
        if rates and cost.disk and rates.adapter == (cell.place.config.model.lora is not None):
            cost = replace(cost, disk=rates.saved)
        if cell.kind == "prepare":
            asked = cell.place.model, cell.place.config.tasks.train
            cost = replace(cost, probing=0.0, loading=0.0) if asked in probed else cost
            probed.add(asked)
        found.append(TimedCell(cell, phase, cost))
    return _measured(found)


def hours(cells: Iterable[TimedCell], jobs: int) -> float:
    """Until all is done in so many processes, each of which takes the next cell of the phase."""
    phases: dict[int, list[float]] = {}
    for each in cells:
        if each.cell.missing():
            phases.setdefault(each.phase, []).append(each.seconds)
    return sum(_makespan(seconds, jobs) for seconds in phases.values()) / 3600


def most_at_once(plan: Plan, cells: Sequence[TimedCell], jobs: int) -> float:
    """Bytes of weights on the disk at once, at most, where they are dropped.

    Those that a later phase may need, and one for each process.
    """
    sizes: dict[Path, float] = {}
    made: dict[Path, int] = {}
    last: dict[Path, int] = {}
    for each in cells:
        missing = each.cell.missing()
        for path in weights_of(each.cell) if missing else ():
            if each.cost.disk:
                sizes[path] = each.cost.disk
                made[path] = min(each.phase, made.get(path, each.phase))
            until = CHOSEN if each.cell.kind == "trial" else each.phase
            last[path] = max(until, last.get(path, 0), *_until_best(plan, each.cell))
    if not sizes:
        return 0.0
    held = [
        sum(size for path, size in sizes.items() if made[path] <= phase < last[path])
        for phase in range(max(last.values()) + 1)
    ]
    return max(held) + jobs * max(sizes.values())


def _until_best(plan: Plan, cell: Cell) -> Iterable[int]:
    """The phase of the choice that a cell's model may be chosen by."""
    waits = any(place.best for place in plan.places if place.path == cell.place.path)
    return (BEST,) if waits and cell.kind == "train" else ()


def _makespan(seconds: Sequence[float], jobs: int) -> float:
    ends = [0.0] * jobs
    for each in seconds:
        heapq.heappush(ends, heapq.heappop(ends) + each)
    return max(ends)


def _phases(plan: Plan, rule: Rule) -> Iterator[tuple[int, Cell]]:
    """Every cell with its phase; the first of the grid stands for an alpha yet to be chosen."""
    chosen = choices_made(plan, rule)
    phases: list[list[Cell]] = [prepare_cells(plan), trial_cells(plan), [], [], []]
    for place in plan.shown():
        made = chosen.get(place.tuned_at, {}) if place.tuned_at else {}
        names = [_with_alpha(place, name, made) for name in place.methods]
        waiting = {Method.parse(new).trained for new in set(names) - set(place.methods)}
        for cell in row_cells(place, names, plan.seeds):
            phases[2 if cell.method in waiting else 1].append(cell)
        phases[3] += baseline_cells(place, names, plan.seeds)
        kind = plan.table.renderer
        if kind in ("detector", "dynamics"):
            phases[4] += analysis_cells(kind, place, names, plan.seeds)
    seen: set[object] = set()
    for phase, cells in enumerate(phases):
        for cell in distinct(cells):
            if cell.key not in seen:
                seen.add(cell.key)
                yield phase, cell


def _with_alpha(place: Place, name: str, made: Mapping[str, str]) -> str:
    method = Method.parse(name)
    if place.tuned_at is None or not is_tunable(method):
        return name
    before = method.before_posthoc.name
    return with_posthoc(made.get(before, candidates(method)[0].name), method.posthoc or "")


def _preset(plan: Plan, place: Place) -> Preset:
    """The preset of a place's model, by the rates that were measured of it if there are any."""
    preset = plan.preset_of(place)
    rates = measured_rates(place.path.parent)
    return preset if rates is None else with_measured(preset, rates)


def _measured(cells: Sequence[TimedCell]) -> list[TimedCell]:
    """With the median of the finished cells of their kind in any place of their model."""
    found = []
    groups: dict[tuple[Path, str], tuple[float | None, int]] = {}
    for each in cells:
        cell = each.cell
        key = cell.place.path, cell.kind
        if key not in groups:
            here = [c.cell for c in cells if (c.cell.place.path, c.cell.kind) == key]
            timed = [read_cell(path).wall for path in _timings(here)]
            groups[key] = (median(timed) if timed else None, len(timed))
        measured, number = groups[key]
        found.append(replace(each, measured=measured, timed=number))
    return found


def _timings(cells: Sequence[Cell]) -> list[Path]:
    """Of these cells, else of the others of their kind in any place of the model."""
    root, kind = cells[0].place.path.parent, cells[0].kind
    if own := [path for cell in cells if (path := timing_path(cell)).exists()]:
        return own
    others = (path for place in sorted(root.glob("*")) for path in RunFolder(place).cells())
    return [path for path in others if path.stem == kind or path.stem.startswith(f"{kind}-")]


def _by_kind(cells: Sequence[TimedCell]) -> Iterator[CellEstimate]:
    groups: dict[tuple[Path, str], list[TimedCell]] = {}
    for each in cells:
        groups.setdefault((each.cell.place.path, each.cell.kind), []).append(each)
    order = list(dict.fromkeys(path for path, _ in groups))
    for (path, kind), here in sorted(groups.items(), key=lambda item: order.index(item[0][0])):
        missing = [each for each in here if each.cell.missing()]
        number = here[0].timed
        source = f"measured, {number} cells" if number else "the preset's rates"
        seconds = fmean(each.seconds for each in missing or here)
        yield CellEstimate(folder_name(path), kind, len(here), len(missing), seconds, source)


def show_plan(
    plan: Plan, jobs: int, console: Console, rule: Rule = DEFAULT_RULE, *, drop: bool = False
) -> list[TimedCell]:
    """Print what would run, and for how long; `drop` as `ExecutionOptions.drop_adapters`.

    Returns:
        Every cell.
    """
    cells = timed_cells(plan, rule)
    names = map(escape, (plan.table.name, plan.preset.name, plan.table.question))
    console.print("\n[bold]{}[/] on {}: {}\n".format(*names))
    show_table(_grid(list(_by_kind(cells))), console)
    chosen = sum(len(place.best) for place in plan.places) * len(plan.seeds)
    if chosen:
        console.print(f"\nand post-hoc calibration of {chosen} chosen models, minutes at most")
    if any(place.config.model.lora is None for place in plan.shown()):
        size = FULL_BYTES * plan.preset.parameters / 1e9
        console.print(
            f"\n[yellow]every weight is trained in one process: {size:,.1f} GB for weights, "
            "gradients and Adam's state[/]"
        )
    rate, known = _preset(plan, plan.places[0]).rate, measured_rates(plan.places[0].path.parent)
    rates = "assumed" if known is None else "that --check measured,"
    console.print(
        f"\nRates {rates} until cells are timed: {escape(rate.device)}, {rate.flops:.0e} FLOPs/s, "
        f"{1e6 * rate.launch:g} µs a kernel, {rate.load / 1e9:.2g} GB of weights loaded a second",
        highlight=False,
    )
    missing = [each for each in cells if each.cell.missing()]
    console.print(f"Of it: {_parts(missing)}", highlight=False)
    disk = sum(each.cost.disk for each in missing)
    kept = f"{disk / 1e9:,.1f} GB of trained weights"
    if drop:
        most = min(disk, most_at_once(plan, cells, jobs)) / 1e9
        console.print(f"Disk: {most:,.1f} GB at once at most, of {kept}; none is kept")
    else:
        console.print(f"Disk: {kept} are kept", highlight=False)
    total = sum(each.seconds for each in missing) / 3600
    console.print(
        f"\n{_duration(total)} of work, {_duration(hours(missing, jobs))} in {jobs} "
        f"process{'es' * (jobs > 1)}; nothing was run\n"
    )
    return cells


def _grid(lines: Sequence[CellEstimate]) -> Grid:
    grid = Grid(box=None, pad_edge=False)
    for head in ("run folder", "cells", "of them to do", "seconds each", "hours", "estimated from"):
        grid.add_column(
            head, justify="left" if head in ("run folder", "estimated from") else "right"
        )
    for each in lines:
        grid.add_row(
            escape(f"{each.place}: {each.kind}"),
            str(each.cells),
            str(each.missing),
            f"{each.seconds:.1f}",
            f"{each.missing * each.seconds / 3600:.2f}",
            each.source,
        )
    return grid


def _parts(cells: Sequence[TimedCell]) -> str:
    """``training 12.3 hours, loading 40 minutes`` of the cells that were not timed."""
    untimed = [each.cost for each in cells if each.measured is None]
    names = [field.name for field in fields(CellCost) if field.name not in BYTES]
    spent = {name: sum(getattr(cost, name) for cost in untimed) / 3600 for name in names}
    return ", ".join(f"{name} {_duration(each)}" for name, each in spent.items() if each) or "-"


def _duration(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{math.ceil(60 * hours)} minutes"
