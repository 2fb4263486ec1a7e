"""Tables and models as data: what is asked, and on what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator

from cogcalib.harness.config.read_config import explain
from cogcalib.harness.config.sections import check_distinct
from cogcalib.harness.config.train_sections import ConfigSection
from cogcalib.harness.reproduce.table_checks import check_names
from cogcalib.records import InputError
from cogcalib.suggest import cut, did_you_mean, hint_first
from cogcalib.yaml_files import read_yaml

T = TypeVar("T", bound=ConfigSection)

DEFAULT = "default"
"""The variant that changes nothing of the model's configuration."""


class Variant(ConfigSection):
    """A way in which a table departs from the configuration of the model.

    Attributes:
        about: For people.
        config: Values that replace those of the configuration.
        length: Multiple of the configuration's optimiser steps.
        methods: Those of the table that run under it; None: all.
    """

    about: str
    config: dict[str, Any] = Field(default_factory=dict)
    length: Annotated[float, Field(gt=0)] = 1.0
    methods: tuple[str, ...] | None = None


UNCHANGED = Variant(about="")


class Best(ConfigSection):
    """A method chosen among others by their predictions of the calibration split, by one rule.

    Attributes:
        among: The methods chosen from.
        posthoc: Post-hoc calibrations shown of the chosen one besides.
    """

    among: tuple[str, ...]
    posthoc: tuple[str, ...] = ()


class Table(ConfigSection):
    """One table.

    Attributes:
        name: As in ``cogcalib reproduce NAME``, and of the files written: small letters, digits and
            hyphens.
        title: Its heading.
        question: What it answers.
        methods: Rows, in the order shown.
        tune: Whether penalties get the alpha chosen for them on the calibration split:
            ``each`` (in every variant by itself), ``once`` (under the default variant, so that
            nothing but the variant differs), ``first`` (under the default variant of the first
            task, for all tasks), ``no`` (the configuration's).
        seeds: Of the rows, unless the command says otherwise.
        where: Tasks: ``all``, the ``primary`` one, or those with ``out_of_domain`` tests.
        tasks: Names of the preset's tasks that it is about, in its order; of a preset that has none
            of them, and where this is empty, every task of `where`.
        means: Whether means over the tasks open the page.
        drawn_against: Row that the means over the out-of-domain tasks, tasks drawn, are compared
            with: they open the page, and `cited` is about them and any rows. None: no such means.
        families: Whether it runs on every model of the preset's family.
        variants: Name -> variant; the first is what the others are held against.
        best: Name -> choice, further rows.
        against: Methods that every row is compared with, question by question.
        pairs: Rows compared with each other, ``method`` or ``variant:method``.
        endpoint: Metrics that the cited comparisons are judged by, after a temperature: the first
            is the primary one. Settled before the runs.
        cited: The few pairs of tempered rows that pages may cite, settled before the runs: their
            p-values are adjusted for each other (Holm). All other differences are exploratory. With
            `drawn_against` they may be rows without a temperature, too.
        renderer: How it is drawn: ``methods`` (a table per variant), ``variants`` (variants under
            each other), ``detector`` and ``dynamics`` (what these modules find).
        note: Printed under the table.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    title: str
    question: str
    methods: tuple[str, ...]
    seeds: Annotated[int, Field(gt=0)] = 5
    tune: Literal["each", "once", "first", "no"] = "no"
    where: Literal["all", "primary", "out_of_domain"] = "all"
    tasks: tuple[str, ...] = ()
    means: bool = False
    drawn_against: str | None = None
    families: bool = False
    variants: dict[str, Variant] = Field(default_factory=lambda: {DEFAULT: UNCHANGED})
    best: dict[str, Best] = Field(default_factory=dict)
    against: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    endpoint: tuple[Literal["nll", "brier"], ...] = ("nll", "brier")
    cited: tuple[tuple[str, str], ...] = ()
    renderer: Literal["methods", "variants", "detector", "dynamics"] = "methods"
    note: str = ""

    @field_validator("methods")
    @classmethod
    def _methods_exist(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        check_distinct(methods)
        return methods

    @model_validator(mode="after")
    def _names_are_there(self) -> Table:
        check_names(self)
        return self


class Rate(ConfigSection):
    """How fast a device computes, as assumed until cells have been timed.

    Attributes:
        device: For people.
        flops: Floating-point operations a second that training reaches.
        forward: The same of passes without a way back, as scoring makes; None: as `flops`.
        launch: Seconds to start a kernel, which a small batch waits for; 0 on a CPU.
        load: Bytes of weights loaded a second.
        setup: Seconds of a cell before and after the device computes: questions read and encoded,
            checkpoints and predictions written.
    """

    device: str
    flops: Annotated[float, Field(gt=0)]
    forward: Annotated[float, Field(gt=0)] | None = None
    launch: Annotated[float, Field(ge=0)] = 0.0
    load: Annotated[float, Field(gt=0)] = 1e9
    setup: Annotated[float, Field(ge=0)] = 0.0


Tokens = Annotated[int, Field(gt=0)]
_PART = "[A-Za-z0-9][A-Za-z0-9._-]*"


class Preset(ConfigSection):
    """A model and how it is fine-tuned.

    Attributes:
        name: As in ``--model NAME``; its last part is that of a folder, and of the files written.
        about: For people.
        parameters: Of the model, for estimates.
        layers: Of the model, for estimates; needed where `rate` has a ``launch``.
        tokens: Of a question with its answer, on average, for estimates: one number, or task ->
            number, for every task trained or tested on.
        rate: Of the device it is meant for.
        family: Presets that a table over families runs on.
        config: Of every run: sections of `cogcalib.harness.config.Config`.
        tasks: Name -> sections that differ by task, ``tasks.train`` among them; the first is the
            primary one.
        variants: Variant of a table -> values this model needs there besides.
    """

    name: Annotated[str, Field(pattern=rf"^{_PART}(/{_PART})*$")]
    about: str
    parameters: Annotated[float, Field(gt=0)]
    layers: Annotated[int, Field(ge=0)] = 0
    tokens: Tokens | dict[str, Tokens]
    rate: Rate
    family: tuple[str, ...] = ()
    config: dict[str, Any]
    tasks: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def tokens_of(self, task: str) -> int:
        """Tokens of a question of a task with its answer."""
        return self.tokens if isinstance(self.tokens, int) else self.tokens[task]

    def asked(self, task: str) -> dict[str, Any]:
        """The section ``tasks`` of one of the tasks: its own on top of that of `config`."""
        section: dict[str, Any] = merge(self.config, self.tasks[task])["tasks"]
        return section

    @model_validator(mode="after")
    def _tasks_are_named(self) -> Preset:
        for name, sections in self.tasks.items():
            section = merge(self.config, sections).get("tasks")
            if not isinstance(section, dict) or not isinstance(section.get("train"), str):
                raise ValueError(
                    f"tasks.{name} must say what is trained on, such as "
                    f"{{tasks: {{train: atlas/country}}}}, got {cut(json.dumps(sections))}"
                )
            others = section.get("out_of_domain", [])
            if not isinstance(others, list) or not all(isinstance(each, str) for each in others):
                raise ValueError(
                    f"tasks.{name}.tasks.out_of_domain must be a list of tasks, got "
                    f"{cut(json.dumps(others))}"
                )
        return self

    @model_validator(mode="after")
    def _what_estimates_need_is_there(self) -> Preset:
        if self.rate.launch and not self.layers:
            raise ValueError("layers must be given with rate.launch: the kernels of a step")
        asked = map(self.asked, self.tasks)
        names = {name for each in asked for name in (each["train"], *each.get("out_of_domain", ()))}
        if not isinstance(self.tokens, int) and (lost := sorted(names - self.tokens.keys())):
            raise ValueError(f"tokens must name every task, and lacks {', '.join(lost)}")
        return self

    @field_validator("config", "tasks")
    @classmethod
    def _rows_are_the_tables(cls, sections: dict[str, Any]) -> dict[str, Any]:
        for key in ("name", "methods", "seeds"):
            held = [each for each in (sections, *sections.values()) if isinstance(each, dict)]
            if any(key in each for each in held):
                raise ValueError(f"{key} is the table's and the command's to say, not the preset's")
        return sections

    @field_validator("variants")
    @classmethod
    def _variants_exist(cls, variants: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        known = {name for table in table_names() for name in load_table(table).variants}
        if unknown := sorted(variants.keys() - known):
            raise ValueError(
                f"no table has a variant {', '.join(unknown)}; there are {', '.join(sorted(known))}"
            )
        return variants


def table_names() -> list[str]:
    """Tables that ship with the package."""
    return _names("tables")


def preset_names() -> list[str]:
    """Models that ship with the package, by the name ``--model`` takes."""
    return [_shipped_preset(path).name for path in _paths("models")]


def load_table(name: str) -> Table:
    """Read a shipped table, or one from a user's own YAML file.

    Raises:
        InputError: If there is none of that name, or a file's table has the name of a shipped one.
    """
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise InputError(f"table {name}: no such file")
        own = _read(Path(name), Table)
        if own.name in table_names():
            raise InputError(f"{name}: {own.name} is a shipped table; give yours another name")
        return own
    if name not in table_names():
        raise InputError(_none_such("table", name, table_names()))
    return _shipped_table(_folder("tables") / f"{name}.yaml").model_copy(deep=True)


def load_preset(name: str) -> Preset:
    """Read a shipped model preset, or one from a user's own YAML file.

    Raises:
        InputError: If there is none of that name.
    """
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise InputError(f"model {name}: no such file")
        return _read(Path(name), Preset)
    for path in _paths("models"):
        preset = _shipped_preset(path)
        if preset.name == name:
            return preset.model_copy(deep=True)
    raise InputError(_none_such("model preset", name, preset_names()))


def _none_such(kind: str, name: str, known: Sequence[str]) -> str:
    rest = f"there are {', '.join(known)}; one of your own is a YAML file like theirs"
    return hint_first(f"there is no {kind} {name!r}", did_you_mean(name, known), rest)


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings on top of each other, later ones win."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            held = merged.get(key)
            both = isinstance(held, Mapping) and isinstance(value, Mapping)
            merged[key] = merge(held, value) if both else value  # type: ignore[arg-type]
    return merged


def _folder(kind: str) -> Path:
    return Path(str(files("cogcalib.harness"))) / "reproduce" / kind


def _paths(kind: str) -> list[Path]:
    return sorted(_folder(kind).glob("*.yaml"))


def _names(kind: str) -> list[str]:
    return [path.stem for path in _paths(kind)]


@cache
def _shipped_table(path: Path) -> Table:
    return _read(path, Table)


@cache
def _shipped_preset(path: Path) -> Preset:
    return _read(path, Preset)


def _read(path: Path, kind: type[T]) -> T:
    try:
        return kind.model_validate_json(json.dumps(read_yaml(path)))
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error, kind)}") from error
