"""The configuration of a run: one small model per stage, named like the stage's verb."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from cogcalib.harness.config.methods import FIXED_ALPHA, AlphaWord, Method
from cogcalib.records import PRESETS, check_preset
from cogcalib.training import defaults

Positive = Annotated[int, Field(gt=0)]
Rule = Literal["nll", "ece"]
DEFAULT_RULE: Rule = "nll"
"""What alphas, the best of several methods, and the variant of a report are chosen by."""
"""Rules of `cogcalib.harness.selection`."""


def _is_count(value: Any, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_share(value: Any) -> bool:
    return isinstance(value, float) and 0 < value < 1


class ConfigSection(BaseModel):
    """A part of the configuration: unknown keys and silent conversions are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class LoraSection(ConfigSection):
    """Low-rank adapters, by default on every linear layer of the body.

    Attributes:
        targets: ``all-linear``, or names of the modules adapted, such as ``[q_proj, v_proj]``.
        dora: Whether magnitude and direction are trained apart (DoRA, arXiv 2402.09353).
    """

    rank: Positive = 8
    alpha: Positive = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    dora: bool = False

    @field_validator("targets")
    @classmethod
    def _targets_are_some(cls, targets: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not targets:
            raise ValueError("must be all-linear or name at least one module")
        return targets


class ModelSection(ConfigSection):
    """Which model is fine-tuned.

    Attributes:
        path: ``atlas`` (embedded), a local folder, or a name on the hub.
        dtype: Of the frozen weights under an adapter, and of the arithmetic. Weights that are
            trained themselves stay in float32.
        lora: Adapter settings; null trains every weight.
        four_bit: Whether the frozen weights under an adapter are kept in 4 bits, as
            `cogcalib.modeling.load_model` does it.
        attention: Implementation of attention; null leaves it to transformers.
    """

    path: str = "atlas"
    dtype: Literal["float32", "bfloat16"] = "float32"
    lora: LoraSection | None = LoraSection()
    four_bit: bool = False
    attention: Literal["eager", "sdpa", "flash_attention_2"] | None = None

    @model_validator(mode="after")
    def _trained_weights_are_whole(self) -> ModelSection:
        if self.four_bit and self.lora is None:
            raise ValueError("model.four_bit needs an adapter, and model.lora is null")
        return self

    def loading(self) -> dict[str, Any]:
        """How its weights are loaded, as keywords of `cogcalib.modeling.load_model`."""
        return {"dtype": self.dtype, "four_bit": self.four_bit, "attention": self.attention}


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
    limit: dict[Literal["train", "calibration", "test"], Positive] = {}
    unknown_share: Annotated[float, Field(ge=0, le=1)] | None = None
    equal_to: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
    seed: int = 0

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


class BySupport(ConfigSection):
    """A number for each support of a penalty: the whole vocabulary, or the answer options."""

    vocab: Annotated[float, Field(ge=0)]
    options: Annotated[float, Field(ge=0)]


class AlphaSection(ConfigSection):
    """Weight of each penalty; the library's by default."""

    label_smoothing: BySupport = BySupport(**defaults.ALPHA["label_smoothing"])
    margin: BySupport = BySupport(**defaults.ALPHA["margin"])
    entropy: BySupport = BySupport(**defaults.ALPHA["entropy"])


class TrainSection(ConfigSection):
    """How it is fine-tuned; the same for every method but for the penalty.

    Attributes:
        steps: Optimiser steps.
        batch_size: Examples per step and device, times `gradient_accumulation`.
        schedule: Of the learning rate, after a linear warm-up over `warmup_share` of the steps.
        style_steps: Plain cross-entropy before the gate opens: steps, share of all steps, "auto".
        threshold_every: Between two estimates of the threshold: steps, or share of an epoch. Null:
            1 to 4 times per epoch, chosen to cost about 2 % of training time; more if there are
            fewer than 14 training examples per calibration example.
        alpha: Weight of each penalty, by support.
        margin: Of the margin penalty, in logits, by support.
        unit: What is known or not as a whole: an ``example``, a ``turn`` or each ``token``.
        gradient_checkpointing: Whether activations are computed again on the way back, which takes
            a third more time and much less memory.
        save_every: Steps between checkpoints; null keeps none, and an interrupted method starts
            again.
        report_to: Trackers that the trainer tells, such as ``wandb``.
    """

    steps: Positive = 150
    batch_size: Positive = 16
    gradient_accumulation: Positive = 1
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_share: Annotated[float, Field(ge=0, lt=1)] = 0.05
    max_length: Positive = 512
    style_steps: int | float | str = defaults.STYLE_STEPS
    threshold_every: int | float | None = None
    alpha: AlphaSection = AlphaSection()
    margin: BySupport = BySupport(**defaults.MARGIN)
    unit: Literal["example", "turn", "token"] = defaults.UNIT
    gradient_checkpointing: bool = False
    save_every: Positive | None = None
    report_to: tuple[str, ...] = ()

    @field_validator("style_steps", mode="before")
    @classmethod
    def _style_steps_are_countable(cls, value: Any) -> Any:
        if value != "auto" and not _is_count(value, least=0) and not _is_share(value):
            raise ValueError('must be a number of steps, a share between 0 and 1, or "auto"')
        return value

    @field_validator("threshold_every", mode="before")
    @classmethod
    def _threshold_every_is_countable(cls, value: Any) -> Any:
        allowed = value is None or (isinstance(value, float) and value == 1)
        if not allowed and not _is_count(value, least=1) and not _is_share(value):
            raise ValueError("must be a number of steps, or a share of an epoch up to 1.0")
        return value

    def alpha_of(self, method: Method) -> float | AlphaWord:
        """The alpha of a method: its name's, else this configuration's; 0 without."""
        if method.alpha is not None:
            return method.alpha
        if method.penalty is None:
            return 0.0
        if method.penalty in FIXED_ALPHA:
            return defaults.ALPHA[method.penalty][method.support]
        alpha: float = getattr(getattr(self.alpha, method.penalty), method.support)
        return alpha

    def margin_of(self, method: Method) -> float:
        """The margin of a method, in logits: its name's, else this configuration's."""
        held: float = getattr(self.margin, method.support)
        return held if method.margin is None else method.margin


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
        if not methods or len(set(methods)) != len(methods):
            raise ValueError("must name at least one method, and none twice")
        spelled: dict[Method, str] = {}
        for method in map(Method.parse, methods):
            name = method.before_posthoc.name
            if (other := spelled.setdefault(method.training, name)) != name:
                raise ValueError(
                    f"{other} and {name} are one method, which would be trained twice; spell it "
                    "in one way"
                )
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
        if penalised and train.steps < 2:
            raise ValueError("train.steps must be at least 2 for a method with a penalty")
        if penalised and isinstance(train.style_steps, int) and train.style_steps >= train.steps:
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
            if method.penalty == "anchor" and self.model.lora is None:
                raise ValueError(
                    f"methods: {method.name} asks the base model, which is the model without its "
                    "adapter, and model.lora is null"
                )
            if method.baseline in ("mc_dropout", "laplace") and self.model.lora is None:
                raise ValueError(f"methods: {method.name} needs an adapter, model.lora is null")
        others = tasks.out_of_domain
        if tasks.train in others or len(set(others)) != len(others):
            raise ValueError("tasks.out_of_domain must not hold tasks.train, nor a task twice")
        return self

    @model_serializer(mode="wrap")
    def _without_a_probe_not_named(self, values: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Runs without one stay recorded as they were before there was the key."""
        found: dict[str, Any] = values(self)
        if found.get("probe") is None:
            found.pop("probe", None)
        return found
