"""Deep ensemble: the mean of models fine-tuned from different seeds."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils.memory import clear_device_cache
from numpy.typing import NDArray
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.baselines.base import Cost, check_choices
from cogcalib.modeling import load_model
from cogcalib.modeling.adapter_exchange import can_be_exchanged, exchange_adapter
from cogcalib.modeling.option_letters import Choice, encode_choices
from cogcalib.posthoc import TemperatureScaling
from cogcalib.records import Example, Prediction
from cogcalib.scoring import ScoreSettings, answer_logits, predict_from_logits
from cogcalib.scoring.config import DEFAULTS
from cogcalib.scoring.posthoc import check_calibration
from cogcalib.scoring.recalibrate import fit_letter_temperatures

Member = Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase]]
"""Loads a member when called."""

BLOCK_BYTES = 2**31
"""Memory for the probabilities of the questions worked on at once."""


class Ensemble:
    """Average the probabilities of N models (Lakshminarayanan et al., NeurIPS 2017).

        p(v | x) = 1/N sum_n p_n(v | x)

    over the whole vocabulary at the answer position, from which every confidence definition is
    read as usual. Multiple choice only. Members are asked one after the other, LoRA adapters on one
    model in memory, whole models loaded in turn, so that memory hardly grows with N; if the
    questions times the vocabulary take more than 2 GiB, the questions are worked on in blocks, and
    whole models loaded once for each.

    Args:
        members: At least two functions that load a model and its tokenizer. The models must differ
            in their weights only.

    Raises:
        ValueError: If there are fewer than two.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        if len(members) < 2:
            raise ValueError(f"members must be at least two, got {len(members)}")
        self.members = list(members)
        self._extra: int | None = None

    @classmethod
    def of_adapters(
        cls, model: str | Path, adapters: Sequence[str | Path], **load: Any
    ) -> Ensemble:
        """An ensemble of adapters on one model, which is loaded once if they are LoRA.

        Args:
            model: A folder, a hub id, or an embedded model.
            adapters: Folders or hub ids of PEFT adapters, one per member.
            load: As `load_model`, such as ``dtype``.

        Raises:
            ValueError: If there are fewer than two, or one is named twice.
        """
        _check_distinct("adapters", adapters)
        if all(map(can_be_exchanged, adapters)):
            shared = _SharedModel(model, load)
            return cls([partial(shared.under, adapter) for adapter in adapters])
        return cls([partial(load_model, model, adapter=adapter, **load) for adapter in adapters])

    @classmethod
    def of_models(cls, models: Sequence[str | Path], **load: Any) -> Ensemble:
        """An ensemble of whole models, one folder or hub id per member; `load` as `load_model`.

        Raises:
            ValueError: If there are fewer than two, or one is named twice.
        """
        _check_distinct("models", models)
        return cls([partial(load_model, model, **load) for model in models])

    @property
    def cost(self) -> Cost:
        """N passes, and N - 1 times the weights that a member brings.

        Raises:
            RuntimeError: Before the first prediction, when no member was loaded yet.
        """
        if self._extra is None:
            raise RuntimeError("the cost of an ensemble is known after predict: call it first")
        return Cost(passes=len(self.members), extra_parameters=self._extra, fit_seconds=0.0)

    def fit(self, train: Sequence[Example], settings: ScoreSettings = DEFAULTS) -> Ensemble:
        """Nothing to fit: training the members was it. Returns this object."""
        return self

    def predict(
        self, examples: Sequence[Example], settings: ScoreSettings = DEFAULTS
    ) -> list[Prediction]:
        """Predictions of the averaged probabilities, in the order given.

        Raises:
            ValueError: For an open-ended example, as `cogcalib.scoring.score`, or if a member reads
                the questions as other tokens than the first, or has another vocabulary.
        """
        check_choices(examples, settings, "an ensemble")
        predictions: list[Prediction] = []
        for block in self._averaged(examples, settings):
            asked = examples[len(predictions) : len(predictions) + len(block.log_p)]
            predictions += predict_from_logits(block.log_p, asked, block.tokenizer, settings)
        return predictions

    def fit_temperatures(
        self, calibration: Sequence[Example], settings: ScoreSettings = DEFAULTS
    ) -> Mapping[str, TemperatureScaling]:
        """As `Baseline.fit_temperatures`."""
        check_calibration(calibration)
        check_choices(calibration, settings, "an ensemble")
        blocks = list(self._averaged(calibration, settings))
        log_p = np.concatenate([block.log_p for block in blocks])
        return fit_letter_temperatures(log_p, calibration, blocks[0].tokenizer)

    def _averaged(self, examples: Sequence[Example], settings: ScoreSettings) -> Iterator[_Reading]:
        """Logs of the mean probabilities, in blocks that fit into `BLOCK_BYTES`."""
        done = 0
        while done < len(examples):
            block = self._average(examples[done:], settings)
            done += len(block.log_p)
            yield block

    def _average(self, examples: Sequence[Example], settings: ScoreSettings) -> _Reading:
        """The average over the members of the first examples, as many as fit into a block."""
        first = _read(self.members[0], examples, settings)
        examples = examples[: len(first.log_p)]
        total, extra = first.log_p, 0
        for number, member in enumerate(self.members[1:], start=1):
            found = _read(member, examples, settings)
            if found.questions != first.questions:
                raise ValueError(
                    f"member {number} reads the questions or their letters as other tokens than "
                    "member 0: the members of an ensemble must share their tokenizer"
                )
            if found.log_p.shape != total.shape:
                raise ValueError(
                    f"member {number} has a vocabulary of {found.log_p.shape[1]} tokens, member 0 "
                    f"one of {total.shape[1]}"
                )
            np.logaddexp(total, found.log_p, out=total)
            extra += found.weights
        self._extra = extra
        total -= math.log(len(self.members))
        return first


class _SharedModel:
    """One model in memory, under one adapter after the other."""

    def __init__(self, model: str | Path, load: Mapping[str, Any]) -> None:
        self._model = model
        self._load = load
        self._loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None

    def under(self, adapter: str | Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The model under an adapter: the same object each time."""
        if self._loaded is None:
            self._loaded = load_model(self._model, adapter=adapter, **self._load)
            self._names = {str(adapter): "default"}
            return self._loaded
        exchange_adapter(self._loaded[0], self._names, adapter, self._model)
        return self._loaded


def _check_distinct(argument: str, members: Sequence[str | Path]) -> None:
    twice = sorted({str(member) for member in members if list(members).count(member) > 1})
    if twice:
        raise ValueError(f"{argument} must be different ones, got {', '.join(twice)} twice")


@dataclass(frozen=True, slots=True)
class _Reading:
    """What one member says; the model itself is gone."""

    questions: list[Choice]
    log_p: NDArray[np.float32]
    tokenizer: PreTrainedTokenizerBase
    weights: int


def _read(member: Member, examples: Sequence[Example], settings: ScoreSettings) -> _Reading:
    model, tokenizer = member()
    vocabulary = model.config.get_text_config().vocab_size
    examples = examples[: max(1, BLOCK_BYTES // (4 * vocabulary))]
    questions = encode_choices(examples, tokenizer, None)
    log_p = _log_softmax(answer_logits(model, tokenizer, examples, settings)[0])
    weights = _brought(model)
    del model
    gc.collect()
    clear_device_cache()
    return _Reading(questions, log_p, tokenizer, weights)


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-probabilities, in the memory of the logits."""
    logits -= logits.max(axis=1, keepdims=True)
    for row in logits:  # one row's exponentials at a time
        row -= np.log(np.exp(row).sum(dtype=np.float64))
    return logits


def _brought(model: PreTrainedModel) -> int:
    """How many weights are this member's own: those of its adapter, or all."""
    if not isinstance(model, PeftModel):
        return sum(weight.numel() for weight in model.parameters())
    prefix, active = model.base_model.prefix, f".{model.active_adapter}."
    own = [(f"{name}.", weight) for name, weight in model.named_parameters() if prefix in name]
    if len(model.peft_config) > 1:  # the others belong to other members
        own = [(name, weight) for name, weight in own if active in name]
    return sum(weight.numel() for _, weight in own)
