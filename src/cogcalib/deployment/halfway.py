"""The temperature for another task, from its unlabelled questions and the base model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray
from peft import PeftModel

from cogcalib.deployment.access import ModelAccess
from cogcalib.deployment.calibration_file import OPTIONS, AnswerFormat, Halfway, ModelIdentity
from cogcalib.deployment.held_out import FEWEST, HeldOut, Told, Unlabelled
from cogcalib.deployment.opened import FoundModel, SavedModel, find_model, identify_model
from cogcalib.deployment.raw_answers import RawAnswer, ask
from cogcalib.inference.backend import Backend
from cogcalib.inference.transformers_backend import TransformersBackend
from cogcalib.metrics import expected_calibration_error
from cogcalib.posthoc import TemperatureScaling
from cogcalib.records import InputError, Prediction, input_errors
from cogcalib.scoring import fit_to_base, why_uncalibrated


@dataclass(frozen=True, slots=True, eq=False)
class AgainstBase:
    """The answers of a model and of its base to the same unlabelled questions.

    Attributes:
        unlabelled: The questions.
        own, theirs: Answers of the model and of its base, in the order of the questions.
        base: The base model.
        base_ece: Its ECE over the options on the labelled questions, a fraction.
    """

    unlabelled: Unlabelled
    own: Sequence[Prediction]
    theirs: Sequence[Prediction]
    base: ModelIdentity
    base_ece: float

    @property
    def agreeing(self) -> int:
        """Questions that both answer alike."""
        pairs = zip(self.own, self.theirs, strict=True)
        return sum(own.prediction == other.prediction for own, other in pairs)

    def scaling(self, in_domain: TemperatureScaling) -> TemperatureScaling:
        """The temperature halfway from one that was fitted to labels."""
        return fit_to_base(self.own, self.theirs, in_domain)

    def record(self, in_domain: TemperatureScaling) -> Halfway:
        """What that lies between, for `calibration.json`."""
        return Halfway(
            in_domain.temperature_,
            fit_to_base(self.own, self.theirs).temperature_,
            len(self.own),
            self.agreeing,
            self.unlabelled.name,
            self.unlabelled.sha256,
            self.base,
            self.base_ece,
        )


def take_base(
    saved: SavedModel, access: ModelAccess, method: str
) -> tuple[ModelAccess, str | None]:
    """How the model is asked, and the base that it is held against.

    Args:
        saved: The model.
        access: As given: of a whole model its `base` is the other model, of an adapter its own.
        method: Of recalibration.

    Returns:
        The way to the model itself; folder or hub id of the base, None for the adapter's own.

    Raises:
        InputError: If the method is no temperature, the base of a whole model is not named, or an
            endpoint is asked.
    """
    if method != "temperature":
        raise InputError(f"unlabelled needs method temperature, got {method!r}")
    if access.endpoint is not None:
        raise InputError(
            "unlabelled cannot be used with an endpoint: the base model has to be asked as well"
        )
    if saved.adapter:
        return access, None
    if access.base is None:
        raise InputError(
            f"unlabelled needs the model that {saved.source} was trained from, which a whole model "
            "does not bring along: name it with base"
        )
    return replace(access, base=None), access.base


def check_answers(answers: AnswerFormat) -> None:
    """Raise InputError if answers are generated: unlabelled questions need options."""
    if answers.kind != OPTIONS:
        raise InputError(
            "unlabelled needs questions with options, and the model's answers are generated: it "
            "compares what two models give to each option"
        )


def ask_both(
    found: FoundModel,
    base: FoundModel | None,
    questions: HeldOut,
    unlabelled: Unlabelled,
    answers: AnswerFormat,
    progress: Told,
) -> tuple[list[RawAnswer], AgainstBase]:
    """Ask a model and its base.

    The base is asked first: if it is not calibrated nothing else is.

    Args:
        found: The model.
        base: Its base, of a whole model; None: the model with its adapter off.
        questions: With labels.
        unlabelled: Without.
        answers: How both are asked.
        progress: Told of finished questions, and of how many there are, both models together.

    Returns:
        What the model says to the labelled questions; what both say to the others.

    Raises:
        InputError: If the base model is not calibrated on the labelled questions
            (`why_uncalibrated`), or both answer fewer than `FEWEST` of the others alike.
    """
    sets = (questions.questions, unlabelled.questions)
    n = sum(map(len, sets))

    def asked(backend: Backend, which: int, before: int) -> list[RawAnswer]:
        def told(done: int) -> None:
            if progress is not None:
                progress(before + done, 2 * n)

        return ask(backend, sets[which], answers, told)

    with input_errors():
        backend = found.load().backend if base is None else base.load().backend
    with _adapter_off(backend) if base is None else nullcontext():
        labelled = asked(backend, 0, 0)
        error = _checked_error(labelled, questions)
        theirs = _predictions(asked(backend, 1, len(labelled)))
    if base is not None:
        del backend  # two whole models may not fit
        with input_errors():
            backend = found.load().backend
    raw = asked(backend, 0, n)
    own = _predictions(asked(backend, 1, n + len(raw)))
    identity = replace(found.identity, adapter=None) if base is None else base.identity
    against = AgainstBase(unlabelled, own, theirs, identity, error)
    if against.agreeing < FEWEST:
        raise InputError(
            f"{unlabelled.name}: the model and its base must answer at least {FEWEST} questions "
            f"alike, to which the temperature is fitted, got {against.agreeing} of {len(own)}"
        )
    return raw, against


def find_base(
    base: str, found: FoundModel, access: ModelAccess, asked: Sequence[HeldOut | Unlabelled]
) -> FoundModel:
    """The base of a whole model, in the number format of that model.

    Args:
        base: Folder or hub id.
        found: The model.
        access: The way to the model.
        asked: What both are to be asked, in the model's tokens.

    Raises:
        InputError: If there is no such model, it is the model itself, or the questions' tokens are
            others to it.
    """
    with input_errors():
        other = identify_model(find_model(base), replace(access, dtype=found.spec.dtype))
    own, theirs = found.identity, other.identity
    if own.sha256 and (own.sha256, own.adapter) == (theirs.sha256, theirs.adapter):
        raise InputError(
            f"base must be the model that {found.saved.source} was trained from, got {base}, which "
            "is the same"
        )
    used = sorted(
        {
            token
            for questions in asked
            for each in questions.questions
            for ids in (each.prompt_ids, *each.option_ids)
            for token in ids
        }
    )
    words = [each.tokenizer.convert_ids_to_tokens(used) for each in (found, other)]
    if words[0] != words[1]:
        raise InputError(
            f"base must have the tokens of {found.saved.source}, got {base} with another vocabulary"
        )
    return other


def _adapter_off(backend: Backend) -> AbstractContextManager[None]:
    """The model without its adapter, for as long as the context lasts."""
    model = cast(TransformersBackend, backend).model
    return cast(AbstractContextManager[None], cast(PeftModel, model).disable_adapter())


def _checked_error(labelled: Sequence[RawAnswer], questions: HeldOut) -> float:
    """ECE of the base model; raises InputError if its confidence may not be trusted."""
    correct = questions.correct([answer.text for answer in labelled])
    predictions = _predictions(labelled, correct)
    if reason := why_uncalibrated(predictions):
        raise InputError(f"unlabelled cannot be used: {reason}")
    confidence = [row.confidence["options"] for row in predictions]
    return float(expected_calibration_error(confidence, correct))


def _predictions(
    raw: Sequence[RawAnswer], correct: NDArray[np.bool_] | None = None
) -> list[Prediction]:
    """Raw answers as `cogcalib.scoring` takes them: of the calibration split if they are judged.

    Of the others nothing is known that a label would say.
    """
    split = "unlabelled" if correct is None else "calibration"
    right = [False] * len(raw) if correct is None else correct.tolist()
    return [
        Prediction(
            id=str(index),
            task="",
            split=split,
            answer="",
            prediction=answer.text,
            correct=right[index],
            nll=float("nan"),
            confidence=answer.confidence,
            option_logprobs=answer.logprobs,
            model="",
            run="",
        )
        for index, answer in enumerate(raw)
    ]
