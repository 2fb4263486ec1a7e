"""Interpolation between a model and its base: the scale of the adapter, chosen after training."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from peft.helpers import rescale_adapter_scale
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.baselines.base import Cost
from cogcalib.metrics import mean
from cogcalib.posthoc import TemperatureScaling
from cogcalib.records import Example, Prediction
from cogcalib.scoring import ScoreSettings, fit_temperatures, score
from cogcalib.scoring.confidence_names import LETTER
from cogcalib.scoring.config import DEFAULTS
from cogcalib.scoring.posthoc import check_calibration

SCALES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Multiples of the adapter's own scale that are tried: 0 is the base, 1 the model as it is."""


class Interpolation:
    """A LoRA adapter at the scale of the lowest calibration NLL, between the base and the model.

        W(s) = W + s B A,    s* = argmin over `SCALES` of the mean of -log p_s(y | x)

    with p_s the share of the correct option among the options. It is weight interpolation between
    the base and the fine-tuned model (WiSE-FT; Wortsman et al., CVPR 2022, arXiv 2109.01903), which
    with an adapter needs no second model. Of equal scales the largest is taken: the model as it was
    trained. Multiple choice answered with a letter only.

    Args:
        model: A causal language model with a LoRA adapter, trained, not merged.
        tokenizer: Its tokenizer.

    Attributes:
        scale_: s*.
        nll_: Scale -> NLL on the calibration split, nats.

    Raises:
        ValueError: If the model has no LoRA adapter, it is merged, or at scale 0 it would not be
            the base model (DoRA, modules trained whole, another kind of adapter).
    """

    scale_: float
    nll_: dict[float, float]

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        _check_adapter(model)
        self.model, self.tokenizer = model, tokenizer
        self._seconds = 0.0

    @property
    def cost(self) -> Cost:
        """One pass, and one number."""
        return Cost(passes=1, extra_parameters=1, fit_seconds=self._seconds)

    @property
    def chosen(self) -> dict[str, Any]:
        """What was chosen, as JSON has it: ``scale``, and ``nll``: scale -> nats.

        Raises:
            RuntimeError: If unfitted.
        """
        nll = {f"{scale:g}": value for scale, value in self.nll_.items()} if self._fitted() else {}
        return {"scale": self.scale_, "nll": nll}

    def fit(
        self, calibration: Sequence[Example], settings: ScoreSettings = DEFAULTS
    ) -> Interpolation:
        """Choose the scale: one pass over the calibration split for each.

        Args:
            calibration: Multiple-choice examples of split ``calibration``, at least one.
            settings: Batches.

        Returns:
            This object.

        Raises:
            ValueError: If there is none, or one is of another split or open-ended.
        """
        check_calibration(calibration)
        _check_letters(calibration, settings)
        begun = time.perf_counter()
        self.nll_ = {}
        for scale in SCALES:
            with rescale_adapter_scale(self.model, scale):
                made = score(self.model, self.tokenizer, calibration, settings)
            self.nll_[scale] = mean([row.nll for row in made])
        self.scale_ = min(reversed(SCALES), key=self.nll_.__getitem__)
        self._seconds = time.perf_counter() - begun
        return self

    def predict(
        self, examples: Sequence[Example], settings: ScoreSettings = DEFAULTS
    ) -> list[Prediction]:
        """Predictions at the scale chosen, in the order given.

        Raises:
            RuntimeError: If unfitted.
            ValueError: For an open-ended example, or as `cogcalib.scoring.score`.
        """
        self._fitted()
        _check_letters(examples, settings)
        with rescale_adapter_scale(self.model, self.scale_):
            return score(self.model, self.tokenizer, examples, settings)

    def fit_temperatures(
        self, calibration: Sequence[Example], settings: ScoreSettings = DEFAULTS
    ) -> Mapping[str, TemperatureScaling]:
        """As `cogcalib.scoring.fit_temperatures`, at the scale chosen.

        Raises:
            RuntimeError: If unfitted.
        """
        self._fitted()
        _check_letters(calibration, settings)
        with rescale_adapter_scale(self.model, self.scale_):
            return fit_temperatures(self.model, self.tokenizer, calibration, settings)

    def _fitted(self) -> bool:
        if not hasattr(self, "scale_"):
            raise RuntimeError("Interpolation is not fitted: call fit first")
        return True


def _check_letters(examples: Sequence[Example], settings: ScoreSettings) -> None:
    for example in examples:
        if example.options is None:
            raise ValueError(
                f"interpolation is for multiple choice, example {example.id!r} is open-ended"
            )
    if settings.answer != LETTER:
        raise ValueError(f"interpolation needs settings.answer {LETTER}, got {settings.answer!r}")


def _check_adapter(model: nn.Module) -> None:
    """Raise a ValueError unless the model at scale 0 is its base."""
    layers = {name: each for name, each in model.named_modules() if isinstance(each, LoraLayer)}
    if not layers:
        raise ValueError(
            "the model has no LoRA adapter, whose scale could be chosen: every weight was trained, "
            "or the adapter is merged or of another kind"
        )
    if any(getattr(each, "merged", False) for each in layers.values()):
        raise ValueError("the adapter is merged into the model: load it without merging")
    for name, each in model.named_modules():
        if isinstance(each, AuxiliaryTrainingWrapper):
            raise ValueError(
                f"the adapter must be LoRA and nothing else, got {name}, trained whole: "
                "at scale 0 the model would not be its base"
            )
        if isinstance(each, BaseTunerLayer) and not isinstance(each, LoraLayer):
            raise ValueError(f"the adapter must be LoRA, got {type(each).__name__} at {name}")
        if isinstance(each, LoraLayer) and len(each.lora_magnitude_vector):
            raise ValueError(
                f"the adapter must be plain LoRA, got DoRA at {name}: its magnitudes stay at scale "
                "0, so that the model would not be its base"
            )
