"""The interface of all baselines: calls, costs, and models they refuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cogcalib.posthoc import TemperatureScaling
from cogcalib.records import Example, Prediction
from cogcalib.scoring import ScoreSettings
from cogcalib.scoring.confidence_names import LETTER, MULTIPLE_CHOICE
from cogcalib.scoring.config import DEFAULTS


@dataclass(frozen=True, slots=True)
class Cost:
    """What a baseline costs beyond one fine-tuned model.

    Attributes:
        passes: Forward passes per question. A Jacobian counts as the passes that it takes.
        extra_parameters: Numbers kept beside the fine-tuned model.
        fit_seconds: Wall seconds spent fitting, training of the model or models apart.
    """

    passes: int
    extra_parameters: int
    fit_seconds: float


class Baseline(Protocol):
    """Another way to a confidence that can be trusted, from models fine-tuned already."""

    def fit(self, train: Sequence[Example], settings: ScoreSettings = DEFAULTS) -> Baseline:
        """Fit what there is to fit on the examples the model was trained on; returns itself."""
        ...

    def predict(
        self, examples: Sequence[Example], settings: ScoreSettings = DEFAULTS
    ) -> list[Prediction]:
        """One prediction per example, in the order given."""
        ...

    def fit_temperatures(
        self, calibration: Sequence[Example], settings: ScoreSettings = DEFAULTS
    ) -> Mapping[str, TemperatureScaling]:
        """Temperatures of the averaged distribution, by confidence definition.

        Averaged first, tempered afterwards (Rahaman and Thiery, NeurIPS 2021): with p the mean
        probabilities, q(v) is proportional to p(v)^(1/T) over the support of the definition, the
        vocabulary or the options; what T minimises is said in `cogcalib.scoring.fit_temperatures`.
        `predict` takes them as `settings.temperature`.

        Args:
            calibration: Multiple-choice examples of split ``calibration``, at least one.
            settings: Batches.

        Raises:
            ValueError: If an example is of another split, or as `predict`.
        """
        ...

    @property
    def cost(self) -> Cost:
        """What it costs."""
        ...


def check_choices(examples: Sequence[Example], settings: ScoreSettings, baseline: str) -> None:
    """Raise unless all examples are multiple choice, answered with the letter.

    Open-ended answers are refused: the answer is part of what would have to be averaged, and no
    definition of that is established.

    Raises:
        ValueError: Naming the baseline and what it was given.
    """
    for example in examples:
        if example.options is None:
            raise ValueError(
                f"{baseline} is for multiple choice, example {example.id!r} is open-ended: which "
                "answer the average gives is not defined"
            )
    if settings.answer != LETTER:
        raise ValueError(f"{baseline} needs settings.answer {LETTER}, got {settings.answer!r}")
    settings.temperatures(MULTIPLE_CHOICE)
