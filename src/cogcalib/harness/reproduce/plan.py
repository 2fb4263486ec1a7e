"""A table on a model as run folders and cells, before anything runs.

A place is a run folder: a model on a task under a variant, whatever methods and seeds are asked of
it. Tables that ask the same of a place share its cells. A cell is what one process does at once:
prepare a place, try a strength, train a model and predict with it, predict with several models.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from cogcalib.harness.config import Config, ConfigError, Method, dump_config, parse_config
from cogcalib.harness.reproduce.definitions import (
    DEFAULT,
    UNCHANGED,
    Best,
    Preset,
    Table,
    Variant,
    load_preset,
    merge,
)
from cogcalib.harness.reproduce.specs import is_open_ended, tested_on
from cogcalib.harness.run_folder import RunFolder
from cogcalib.harness.stages import member_seeds
from cogcalib.harness.tuning import candidates, is_tunable
from cogcalib.records import InputError

Kind = Literal["prepare", "trial", "train", "member", "baseline", "detector", "dynamics"]


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
        tuned_at: Place whose trials decide the strengths; None: none are chosen.
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
class Cell:
    """What one process does at once.

    Attributes:
        place: Where.
        kind: ``prepare``; ``trial``: train and predict the calibration split; ``train``: train and
            predict everything; ``member``: only train; ``baseline``: predict with models trained
            before; ``detector`` and ``dynamics``: see the modules of these names.
        method: What is trained, or the baseline; empty for ``prepare``.
        seed: Of the training.
        predicted: Methods whose predictions it leaves.
    """

    place: Place
    kind: Kind
    method: str = ""
    seed: int = 0
    predicted: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Unique within its place."""
        return f"{self.kind}-{self.method}-seed-{self.seed}" if self.method else self.kind

    @property
    def key(self) -> tuple[Path, str, tuple[str, ...]]:
        """Unique among all cells."""
        return self.place.path, self.name, self.predicted

    @property
    def label(self) -> str:
        """For people."""
        return f"{folder_name(self.place.path)}: {self.name}"

    def missing(self) -> bool:
        """Whether something it leaves is not there yet."""
        return not all(path.exists() for path in self._outputs())

    def to_json(self) -> str:
        """On one line, for another process."""
        place = self.place
        return json.dumps(
            {
                "place": [place.model, place.task, place.variant, str(place.path)],
                "config": dump_config(place.config),
                "cell": [self.kind, self.method, self.seed, self.predicted],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Cell:
        """Read back what `to_json` wrote."""
        values = json.loads(text)
        model, task, variant, path = values["place"]
        kind, method, seed, predicted = values["cell"]
        place = Place(model, task, variant, Path(path), parse_config(values["config"]), ())
        return cls(place, kind, method, seed, tuple(predicted))

    def _outputs(self) -> Iterator[Path]:
        folder = RunFolder(self.place.path)
        if self.kind == "prepare":
            yield folder.manifest
        elif self.kind == "trial":
            yield folder.tune(self.method, self.seed)
        elif self.kind == "member":
            yield folder.train(self.method, self.seed)
        elif self.kind in ("detector", "dynamics"):
            yield folder.analysis(self.kind, self.method, self.seed)
        for name in self.predicted:
            yield folder.predictions(name, self.seed)


@dataclass(frozen=True)
class Plan:
    """A table on a model.

    Attributes:
        table: The table.
        preset: The model asked for.
        seeds: Of the rows.
        tune_seeds: Of the trials.
        places: Run folders of the rows, and those that only decide strengths.
    """

    table: Table
    preset: Preset
    seeds: tuple[int, ...]
    tune_seeds: tuple[int, ...]
    places: tuple[Place, ...]

    def shown(self) -> list[Place]:
        """The places that rows come from."""
        return [place for place in self.places if place.methods]

    def tuned(self) -> list[Place]:
        """The places that need trials of their own."""
        wanted = {place.tuned_at for place in self.places}
        return [place for place in self.places if place.path in wanted]

    def tunable(self, at: Place) -> list[Method]:
        """Methods whose strengths are decided at a place, in the order listed."""
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

    Raises:
        InputError: If a configuration is invalid, or a name in `limit_methods` is no row.
    """
    unknown = {*(limit_methods or ()), *without} - set(table.methods)
    if unknown:
        raise InputError(
            f"{', '.join(sorted(unknown))} is no row of {table.name} that can be named; there are "
            f"{', '.join(table.methods)}"
        )
    kept = tuple(
        name
        for name in table.methods
        if (not limit_methods or name in limit_methods or name == "sft") and name not in without
    )
    presets = _family(preset) if table.families else [preset]
    places: list[Place] = []
    for each in presets:
        for task in _tasks(table, each):
            places += _places(table, each, task, root, kept)
    return Plan(table, preset, tuple(seeds), tuple(tune_seeds), tuple(places))


def _family(preset: Preset) -> list[Preset]:
    try:
        return [load_preset(name) for name in preset.family] or [preset]
    except InputError as error:
        raise InputError(f"{preset.name}: family: {error}") from error


def _tasks(table: Table, preset: Preset) -> list[str]:
    if table.where == "primary":
        return list(preset.tasks)[:1]
    names = []
    for name, sections in preset.tasks.items():
        if table.where == "all" or sections.get("tasks", {}).get("out_of_domain"):
            names.append(name)
    return names


def _places(
    table: Table, preset: Preset, task: str, root: Path, kept: Sequence[str]
) -> list[Place]:
    """The run folders of a task; with strengths chosen once, the default one stands first."""
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
        at = {"each": place.path, "once": default.path, "no": None}[table.tune]
        place = replace(place, methods=tuple(methods), inapplicable=others)
        places.append(replace(place, best=best, tuned_at=at))
    return places


def _place(preset: Preset, task: str, name: str, variant: Variant, root: Path) -> Place:
    folder = root / preset.name.rpartition("/")[2]
    named = task if name == DEFAULT else f"{task}-{name}"
    own = preset.variants.get(name, {})
    canonical = {"name": named, "methods": ["base"], "seeds": [0]}
    values = merge(preset.config, preset.tasks[task], variant.config, own, canonical)
    if variant.length != 1:
        steps = round(values["train"]["steps"] * variant.length)
        values = merge(values, {"train": {"steps": steps}})
    try:
        parsed = parse_config(json.dumps(values), source=f"{preset.name}, {named}")
    except ConfigError as error:
        raise InputError(str(error)) from error
    tested = tested_on(parsed)
    return Place(preset.name, task, name, folder / named, parsed, (), tested_on=tested)


def _applies(name: str, open_ended: bool) -> bool:
    method = Method.parse(name)
    needs_options = method.support == "options" or method.posthoc == "vector" or method.baseline
    return not (open_ended and needs_options)


def distinct(cells: Iterable[Cell]) -> list[Cell]:
    """The cells without repetitions, in order."""
    return list({cell.key: cell for cell in cells}.values())


def prepare_cells(plan: Plan) -> list[Cell]:
    """What every place needs first."""
    return [Cell(place, "prepare") for place in plan.places]


def trial_cells(plan: Plan) -> list[Cell]:
    """Every strength of the grid, and SFT that they are held against."""
    cells = []
    for place in plan.tuned():
        names = ["sft"]
        for method in plan.tunable(place):
            names += [each.name for each in candidates(method)]
        cells += [
            Cell(place, "trial", name, seed)
            for seed in plan.tune_seeds
            for name in dict.fromkeys(names)
        ]
    return cells


def row_cells(place: Place, names: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """Cells that predict the named methods, by what is trained; baselines apart."""
    cells = []
    for seed in seeds:
        by_training: dict[str, list[str]] = {}
        for method in map(Method.parse, names):
            if method.baseline not in ("ensemble", "laplace"):
                by_training.setdefault(method.trained, []).append(method.name)
                continue
            members = member_seeds(place.config, method, seed)
            by_training.setdefault(method.trained, [])
            cells += [Cell(place, "member", method.trained, each) for each in members[1:]]
        cells += [
            Cell(place, "train", trained, seed, tuple(predicted))
            if predicted
            else Cell(place, "member", trained, seed)
            for trained, predicted in by_training.items()
        ]
    return distinct(cells)


def baseline_cells(place: Place, names: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """Cells that predict with models trained before."""
    cells = []
    for seed in seeds:
        by_stem: dict[str, list[str]] = {}
        for method in map(Method.parse, names):
            if method.baseline in ("ensemble", "laplace"):
                by_stem.setdefault(method.stem, []).append(method.name)
        cells += [
            Cell(place, "baseline", stem, seed, tuple(predicted))
            for stem, predicted in by_stem.items()
        ]
    return cells


def analysis_cells(
    kind: Literal["detector", "dynamics"], place: Place, names: Sequence[str], seeds: Sequence[int]
) -> list[Cell]:
    """Cells that look into the named methods instead of scoring them."""
    return [Cell(place, kind, name, seed) for seed in seeds for name in names]
