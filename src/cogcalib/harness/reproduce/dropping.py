"""Weights that no cell of a plan still needs, removed as soon as that is so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from cogcalib.harness.config import Method
from cogcalib.harness.config.methods import with_posthoc
from cogcalib.harness.reproduce.cell import locked
from cogcalib.harness.reproduce.plan import Place, Plan
from cogcalib.harness.reproduce.planned_cells import (
    Cell,
    analysis_cells,
    baseline_cells,
    row_cells,
    trial_cells,
    weights_of,
)
from cogcalib.harness.stages.dropped import drop_weights, were_dropped
from cogcalib.harness.tuning import candidates

Resolved = Mapping[Path, Mapping[str, str]]
"""Place -> row -> the method behind it, where alphas are chosen."""


class Dropping:
    """Removes the weights that cells leave.

    Args:
        plan: Whose cells may read them.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._readers: dict[Path, list[Cell]] = {}
        self._done: dict[Path, Cell] = {}
        self.know({}, best=False)

    def know(self, resolved: Resolved, *, best: bool) -> None:
        """Take note of what is chosen, and drop what only waited for that.

        Args:
            resolved: The rows of each place; those of a place that is missing are yet to be chosen.
            best: Whether it has the best of several methods, too.
        """
        self._readers = {}
        for cell in possible_cells(self.plan, resolved, best=best):
            for path in weights_of(cell):
                self._readers.setdefault(path, []).append(cell)
        for cell in list(self._done.values()):
            self.after(cell)

    def after(self, cell: Cell) -> None:
        """Drop the weights that a finished cell made or read, unless another one needs them."""
        for path in weights_of(cell):
            self._done.setdefault(path, cell)
            needed = any(each.missing() for each in self._readers.get(path, ()))
            if needed or not path.is_dir() or were_dropped(path):
                continue
            with locked(cell) as ours:  # else another process reads them
                if ours:
                    drop_weights(path)


def possible_cells(plan: Plan, resolved: Resolved, *, best: bool) -> Iterator[Cell]:
    """Every cell that a plan may come to: all that may be chosen, until it is."""
    yield from trial_cells(plan)
    kind = plan.table.renderer
    for place in plan.shown():
        rows = resolved.get(place.path)
        names = list(_candidates(plan, place) if rows is None else rows.values())
        yield from row_cells(place, names, plan.seeds)
        yield from baseline_cells(place, names, plan.seeds)
        if not best:
            for spec in place.best.values():
                among = [name for name in names if Method.parse(name).posthoc is None]
                tempered = [with_posthoc(name, each) for each in spec.posthoc for name in among]
                yield from row_cells(place, tempered, plan.seeds)
        if kind in ("detector", "dynamics"):
            yield from analysis_cells(kind, place, names, plan.seeds)


def _candidates(plan: Plan, place: Place) -> Iterator[str]:
    """The rows of a place at every alpha that may be chosen for them."""
    at = next((each for each in plan.places if each.path == place.tuned_at), None)
    tunable = [] if at is None else plan.tunable(at)
    for name in place.methods:
        method = Method.parse(name)
        if method.before_posthoc not in tunable:
            yield name
            continue
        for each in candidates(method.before_posthoc):
            yield with_posthoc(each.name, method.posthoc or "")
