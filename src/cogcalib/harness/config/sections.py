"""The configuration of a run: one small model per stage, named like the stage's verb."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from cogcalib.harness.config.methods import Method
from cogcalib.harness.config.selection_rule import DEFAULT_RULE, Rule
from cogcalib.harness.config.train_sections import (
    ConfigSection,
    ModelSection,
    Positive,
    TrainSection,
    without_null,
)
from cogcalib.records import PRESETS, check_preset

Split = Literal["train", "calibration", "test"]


def check_distinct(names: Sequence[str], key: str = "") -> None:
    """Refuse a list of methods that is empty or has one of them twice, however spelled.

    Args:
        names: The methods.
        key: Where they stand, for the message.

    Raises:
        ValueError: Also if a name is not of the grammar.
    """
    where = f"{key}: " if key else ""
    if not names or len(set(names)) != len(names):
        raise ValueError(f"{where}must name at least one method, and none twice")
    spelled: dict[Method, str] = {}
    for method in map(Method.parse, names):
        name = method.before_posthoc.name
        if (other := spelled.setdefault(method.training, name)) != name:
            raise ValueError(
                f"{where}{other} and {name} are one method, which would be trained twice; spell it "
                "in one way"
            )


class TasksSection(ConfigSection):
    """What it is trained, calibrated and tested on.

    Attributes:
        train: Task with splits train, calibration and test: a name, or the path of a task file.
        out_of_domain: Tasks it is only tested on.
        prompt: Preset that words the questions; ``+chat`` sends them through the model's own chat
            template.
        limit: Split -> number of examples kept, drawn with `seed`.
        unknown_share: Share of the training examples that the base model does not know; the rest
            it knows with certainty (probe categories ``unknown`` and ``known``). Null: as they
            come.
        equal_to: Further values of `unknown_share`, of runs to be compared with: the training split
            is as large as the pool allows for all of them.
        seed: Of the drawing.
    """

    train: str = "atlas/country"
    out_of_domain: tuple[str, ...] = ()
    prompt: str = PRESETS[0]
    limit: dict[Split, Positive] = {}  # noqa: RUF012
    unknown_share: Annotated[float, Field(ge=0, le=1)] | None = None
    equal_to: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
    seed: int = 0

    @field_validator("limit")
    @classmethod
    def _limits_in_one_order(cls, limit: dict[Split, int]) -> dict[Split, int]:
        return {split: limit[split] for split in get_args(Split) if split in limit}

    @model_validator(mode="after")
    def _mixtures_are_mixed(self) -> TasksSection:
        if self.equal_to and self.unknown_share is None:
            raise ValueError("tasks.equal_to needs tasks.unknown_share")
        return self

    @field_validator("prompt")
    @classmethod
    def _prompt_exists(cls, prompt: str) -> str:
        check_preset(prompt)
        return prompt


class BaselinesSection(ConfigSection):
    """What the baselines need that answer with more than one pass of one model.

    Attributes:
        passes: Of ``mc_dropout``.
        dropout: Of the adapter that ``mc_dropout`` trains and samples.
        members: Trainings that an ``ensemble`` averages.
        laplace: Layers of the adapter that ``laplace`` is Bayesian about.
    """

    passes: Annotated[int, Field(ge=2)] = 10
    dropout: Annotated[float, Field(gt=0, lt=1)] = 0.1
    members: Annotated[int, Field(ge=2)] = 5
    laplace: Literal["all", "last"] = "all"


class ScoreSection(ConfigSection):
    """How predictions are made, the probe's too.

    Attributes:
        batch_size: Most questions in one forward pass; null lets a budget of tokens decide.
    """

    batch_size: Positive | None = None


class ReportSection(ConfigSection):
    """How they are summed up.

    Attributes:
        resamples: Bootstrap resamples behind each interval.
        rule: Chooses the CogCalib variant to single out, on the calibration split and at SFT's
            accuracy: ``nll``, the lowest NLL, or ``ece``, the lowest ECE.
    """

    resamples: Positive = 1000
    rule: Rule = DEFAULT_RULE


class Config(ConfigSection):
    """A whole run.

    Attributes:
        name: Of the folder under ``runs/``.
        seeds: Every method is trained once for each.
        methods: See `cogcalib.harness.config.methods`.
        probe: Folder of a finished ``cogcalib probe`` of the same model, whose SliCK categories say
            what is known of the training questions: ``known`` is HighlyKnown, ``unknown`` is
            Unknown. Null: the run asks the model itself, zero-shot.
    """

    name: str
    seeds: tuple[int, ...] = (0,)
    methods: tuple[str, ...] = ("base", "sft", "sft+ts", "cols")
    model: ModelSection = ModelSection()
    tasks: TasksSection = TasksSection()
    probe: str | None = None
    train: TrainSection = TrainSection()
    baselines: BaselinesSection = BaselinesSection()
    score: ScoreSection = ScoreSection()
    report: ReportSection = ReportSection()

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ValueError(
                "must be letters, digits, '.', '_' or '-', beginning with a letter or digit"
            )
        return name

    @field_validator("methods")
    @classmethod
    def _methods_exist(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        check_distinct(methods)
        return methods

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) != len(seeds) or not all(0 <= s < 2**32 for s in seeds):
            raise ValueError("must hold at least one seed, none twice, each from 0 to 2^32 - 1")
        return seeds

    @model_validator(mode="after")
    def _combination_is_possible(self) -> Config:
        train, tasks = self.train, self.tasks
        penalised = any(Method.parse(name).penalty for name in self.methods)
        if penalised and train.steps is not None:
            if train.steps < 2:
                raise ValueError("train.steps must be at least 2 for a method with a penalty")
            if isinstance(train.style_steps, int) and train.style_steps >= train.steps:
                raise ValueError(
                    f"train.style_steps must be less than train.steps = {train.steps}, got "
                    f"{train.style_steps}: the gate would never open"
                )
        if max(train.alpha.label_smoothing.vocab, train.alpha.label_smoothing.options) > 1:
            raise ValueError("train.alpha.label_smoothing must be at most 1: it is a share")
        for method in map(Method.parse, self.methods):
            share = method.alpha if method.penalty == "label_smoothing" else 0
            if isinstance(share, float) and share > 1:
                raise ValueError(
                    f"methods: {method.name}: of label smoothing at most @1 is a share"
                )
            if method.baseline in ("mc_dropout", "laplace") and self.model.lora is None:
                raise ValueError(f"methods: {method.name} needs an adapter, model.lora is null")
        others = tasks.out_of_domain
        if tasks.train in others or len(set(others)) != len(others):
            raise ValueError("tasks.out_of_domain must not hold tasks.train, nor a task twice")
        return self

    @model_serializer(mode="wrap")
    def _without_a_probe_not_named(self, values: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_null(values(self), "probe")
