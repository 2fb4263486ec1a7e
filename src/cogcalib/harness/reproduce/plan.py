"""A table on a model as run folders, before anything runs.

A place is a run folder: a model on a task under a variant, whatever methods and seeds are asked of
it. Tables that ask the same of a place share its cells (`planned_cells`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cogcalib.harness.config import Config, Method
from cogcalib.harness.reproduce.definitions import (
    DEFAULT,
    UNCHANGED,
    Best,
    Preset,
    Table,
    Variant,
    load_preset,
)
from cogcalib.harness.reproduce.requested import (
    kept_rows,
    kept_tasks,
    place_config,
    place_path,
    presets_of,
    tasks_of,
)
from cogcalib.harness.reproduce.specs import is_open_ended, tested_on
from cogcalib.harness.stages import settled
from cogcalib.harness.tuning import is_tunable
from cogcalib.records import InputError, input_errors


def folder_name(path: Path) -> str:
    """A run folder, for people: ``atlas/country``."""
    return f"{path.parent.name}/{path.name}"


@dataclass(frozen=True)
class Place:
    """One run folder and what the table asks of it.

    Attributes:
        model: Name of the preset.
        task: Name of the task in the preset.
        variant: Name of the variant in the table.
        path: The run folder.
        config: What it holds: no methods but base, no seeds but 0.
        methods: Rows asked, as listed.
        inapplicable: Rows asked that the task does not have, being open-ended.
        best: Choices asked.
        tuned_at: Place whose trials decide the alphas; None: none are chosen.
        tested_on: Every task tested on, by its own name, the one trained on first.
    """

    model: str
    task: str
    variant: str
    path: Path
    config: Config
    methods: tuple[str, ...]
    inapplicable: tuple[str, ...] = ()
    best: Mapping[str, Best] = field(default_factory=dict)
    tuned_at: Path | None = None
    tested_on: tuple[str, ...] = ()

    @property
    def trained_on(self) -> str:
        """The task trained on, by its own name."""
        return self.tested_on[0]


@dataclass(frozen=True)
class Plan:
    """A table on a model.

    Attributes:
        table: The table.
        preset: The model asked for.
        seeds: Of the rows.
        tune_seeds: Of the trials.
        places: Run folders of the rows, and those that only decide alphas.
    """

    table: Table
    preset: Preset
    seeds: tuple[int, ...]
    tune_seeds: tuple[int, ...]
    places: tuple[Place, ...]

    def shown(self) -> list[Place]:
        """The places that rows come from."""
        return [place for place in self.places if place.methods]

    def preset_of(self, place: Place) -> Preset:
        """The preset of a place's model: the one asked for, or another of its family."""
        return self.preset if place.model == self.preset.name else load_preset(place.model)

    def tuned(self) -> list[Place]:
        """The places that need trials of their own."""
        wanted = {place.tuned_at for place in self.places}
        return [place for place in self.places if place.path in wanted]

    def tunable(self, at: Place) -> list[Method]:
        """Methods whose alphas are decided at a place, in the order listed."""
        names = dict.fromkeys(
            Method.parse(name).before_posthoc.name
            for place in self.places
            if place.tuned_at == at.path
            for name in place.methods
        )
        return [method for method in map(Method.parse, names) if is_tunable(method)]


def make_plan(
    table: Table,
    preset: Preset,
    root: Path,
    *,
    seeds: Sequence[int],
    tune_seeds: Sequence[int],
    limit_methods: Sequence[str] | None = None,
    without: Sequence[str] = (),
    limit_tasks: Sequence[str] | None = None,
) -> Plan:
    """Lay a table out on a model.

    Args:
        table: The table.
        preset: The model.
        root: Run folders stand in ``<root>/<model>/<task>[-<variant>]``.
        seeds: Of the rows.
        tune_seeds: Of the trials.
        limit_methods: Keep these rows only; ``sft`` always stays.
        without: Leave these rows out.
        limit_tasks: Lay these tasks out only, by their names in the preset. What the table chooses
            on the first task it still chooses there.

    Raises:
        InputError: If a configuration is invalid, a name in `limit_methods` is no row, one in
            `limit_tasks` is no task of the table on this model, two rows' run folders would be one,
            or nothing is left to be run.
    """
    kept = kept_rows(table, limit_methods, without)
    places: list[Place] = []
    for each in presets_of(table, preset):
        tasks = tasks_of(table, each)
        wanted = kept_tasks(table, each, limit_tasks)
        first = _place(each, tasks[0], DEFAULT, UNCHANGED, root)
        at = first.path
        here = [place for task in wanted for place in _places(table, each, task, root, kept, at)]
        if table.tune == "first" and first.task not in wanted:
            here.insert(0, replace(first, tuned_at=first.path))
        _check_first(table, here)
        places += here
    _check_folders(places)
    if not any(place.methods for place in places):
        unfit = any(place.inapplicable for place in places)
        why = "for multiple choice only" if unfit else "which no variant has"
        raise InputError(f"{table.name} on {preset.name} has no row: {', '.join(kept)}, {why}")
    return Plan(table, preset, tuple(seeds), tuple(tune_seeds), tuple(places))


def _check_folders(places: Sequence[Place]) -> None:
    """Raise an InputError if two of them would be one run folder: task ``a-b``, variant b of a."""
    names: dict[Path, str] = {}
    for place in places:
        name = f"task {place.task}, variant {place.variant}, of {place.model}"
        if names.setdefault(place.path, name) != name:
            raise InputError(
                f"{place.path} would be the run folder of two: {names[place.path]}; and {name}; "
                f"rename one of them"
            )


def _check_first(table: Table, places: Sequence[Place]) -> None:
    """Raise an InputError if alphas would be chosen for options on a task that has none."""
    if table.tune == "first" and is_open_ended(places[0].config):
        options = [each for each in places if not is_open_ended(each.config)]
        if options:
            raise InputError(
                f"{table.name} chooses its alphas on the first task, which must have answer "
                f"options as {options[0].task} has, got the open-ended {places[0].task}"
            )


def _places(
    table: Table, preset: Preset, task: str, root: Path, kept: Sequence[str], first: Path
) -> list[Place]:
    """The run folders of a task; with alphas chosen once, the default one stands first."""
    variants = table.variants
    default = _place(preset, task, DEFAULT, UNCHANGED, root)
    open_ended = is_open_ended(default.config)
    places: list[Place] = []
    if table.tune == "once" and DEFAULT not in variants:
        places.append(replace(default, tuned_at=default.path))
    for name, variant in variants.items():
        place = _place(preset, task, name, variant, root)
        listed = table.methods if variant.methods is None else variant.methods
        asked = [method for method in listed if method in kept]
        methods = [method for method in asked if _applies(method, open_ended)]
        others = tuple(method for method in asked if method not in methods)
        best = {
            choice: spec.model_copy(update={"among": among})
            for choice, spec in table.best.items()
            if (among := tuple(method for method in spec.among if method in methods))
            and "sft" in methods
        }
        at = {"each": place.path, "once": default.path, "first": first, "no": None}[table.tune]
        place = replace(place, methods=tuple(methods), inapplicable=others)
        places.append(replace(place, best=best, tuned_at=at))
    return places


def _place(preset: Preset, task: str, name: str, variant: Variant, root: Path) -> Place:
    with input_errors():
        config, _ = settled(place_config(preset, task, name, variant))
    path = place_path(root, preset, task, name)
    return Place(preset.name, task, name, path, config, (), tested_on=tested_on(config))


def _applies(name: str, open_ended: bool) -> bool:
    method = Method.parse(name)
    over_options = method.support == "options" or method.posthoc == "vector"
    return not (open_ended and (over_options or method.baseline or method.held_against_base))
