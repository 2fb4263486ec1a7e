"""The sections of a configuration on the model and its training, and what every section is."""

from __future__ import annotations

import math
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

from cogcalib.harness.config.methods import AlphaWord, Method
from cogcalib.training import defaults

Positive = Annotated[int, Field(gt=0)]


def _is_count(value: Any, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_share(value: Any) -> bool:
    return isinstance(value, float) and 0 < value < 1


def without_null(found: dict[str, Any], key: str) -> dict[str, Any]:
    """Without a key that is null: what names none is recorded as before there was the key."""
    if found.get(key) is None:
        found.pop(key, None)
    return found


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
        revision: Commit or tag of a model on the hub; null is its main branch.
        dtype: Of the frozen weights under an adapter, and of the arithmetic; ``auto`` is that which
            the weights are stored in. Weights that are trained themselves stay in float32.
        lora: Adapter settings; null trains every weight.
        four_bit: Whether the frozen weights under an adapter are kept in 4 bits, as
            `cogcalib.modeling.load_model` does it.
        attention: Implementation of attention; null leaves it to transformers.
    """

    path: str = "atlas"
    revision: Annotated[str, Field(min_length=1)] | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    lora: LoraSection | None = LoraSection()
    four_bit: bool = False
    attention: Literal["eager", "sdpa", "flash_attention_2"] | None = None

    @model_validator(mode="after")
    def _trained_weights_are_whole(self) -> ModelSection:
        if self.four_bit and self.lora is None:
            raise ValueError("model.four_bit needs an adapter, and model.lora is null")
        return self

    @model_serializer(mode="wrap")
    def _without_a_revision_not_named(
        self, values: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        return without_null(values(self), "revision")

    def loading(self, *, trained: bool = False) -> dict[str, Any]:
        """How its weights are loaded, as keywords of `cogcalib.modeling.load_model`.

        Args:
            trained: Whether they are weights that this run has trained, all of them.
        """
        how = {"dtype": self.dtype, "four_bit": self.four_bit, "attention": self.attention}
        return how if trained or self.revision is None else {**how, "revision": self.revision}


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
        steps: Optimiser steps; null where `epochs` says how long.
        epochs: Passes over the training split, which may be broken, in place of `steps`.
        batch_size: Examples per step and device, times `gradient_accumulation`.
        eval_batch_size: Questions per forward pass of a calibration pass.
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

    steps: Positive | None = 150
    epochs: Annotated[float, Field(gt=0)] | None = None
    batch_size: Positive = 16
    gradient_accumulation: Positive = 1
    eval_batch_size: Positive = 8
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

    @model_validator(mode="after")
    def _steps_or_epochs(self) -> TrainSection:
        if self.epochs is None and self.steps is None:
            raise ValueError("steps must be given where epochs is not, got null")
        if self.epochs is not None and self.steps is not None:
            if "steps" in self.model_fields_set:
                raise ValueError(
                    f"steps and epochs both say how long it trains, got {self.steps} and "
                    f"{self.epochs:g}; leave one out, or set it to null"
                )
            object.__setattr__(self, "steps", None)  # the default is for want of both
        return self

    @model_serializer(mode="wrap")
    def _without_epochs_not_named(self, values: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_null(values(self), "epochs")

    def steps_for(self, examples: int) -> int:
        """Optimiser steps on so many training examples; the last batch of an epoch is smaller."""
        if self.steps is not None:
            return self.steps
        an_epoch = math.ceil(examples / (self.batch_size * self.gradient_accumulation))
        return math.ceil((self.epochs or 0) * an_epoch)

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
        if method.penalty == "focal":
            return defaults.ALPHA["focal"][method.support]
        alpha: float = getattr(getattr(self.alpha, method.penalty), method.support)
        return alpha

    def margin_of(self, method: Method) -> float:
        """The margin of a method, in logits: its name's, else this configuration's."""
        held: float = getattr(self.margin, method.support)
        return held if method.margin is None else method.margin

    def style_steps_of(self, method: Method) -> int | float | str:
        """The style phase of a method's training.

        The same for uniform regularisation, so that nothing but the gate differs; the focal loss is
        a baseline, and as published from the first step on.
        """
        return 0 if method.penalty == "focal" else self.style_steps
