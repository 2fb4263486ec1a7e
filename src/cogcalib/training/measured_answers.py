"""Answers judged by their labels: confidence, correctness, NLL among the options, and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor

from cogcalib.losses import NO_OPTION, NllReduction, Support, example_nll, known_examples
from cogcalib.losses.statistics import AnswerStatistics
from cogcalib.training.supervision import SupervisedTokens, Units

if TYPE_CHECKING:
    from cogcalib.metrics import Estimate

NAMES = ("accuracy", "ece", "brier", "aurc")
"""Metrics of confidence and correctness."""


def known_units(statistics: AnswerStatistics, tokens: SupervisedTokens) -> Tensor:
    """Whether the model answers correctly by itself, for each unit: `known_examples`, ``[U]``."""
    units = tokens.units
    return known_examples(statistics, tokens.targets, units.index, len(units), tokens.options)


def confident_units(
    statistics: AnswerStatistics, tokens: SupervisedTokens, support: Support
) -> tuple[Tensor, Tensor]:
    """Confidence in its own answer and whether that is correct, for each unit, both ``[U]``.

    With options, at the token where they compete: the largest probability among them or over the
    whole vocabulary, as `support` says, and whether their arg max is the gold one. Otherwise
    ``mean``, the confidence that open-ended answers are scored by: exp of the mean over the unit's
    tokens of the largest log-probability, under teacher forcing, and whether every token is gold.
    """
    units, options, scores = tokens.units, tokens.options, statistics.option_scores
    log_confidence, counted = statistics.log_confidence, torch.ones_like(statistics.correct)
    if options is not None and scores is not None and scores.shape[1]:
        competing = (options != NO_OPTION).any(1)
        if support == "options":
            share = scores.masked_fill(~competing[:, None], 0).log_softmax(1).amax(1)
            log_confidence = torch.where(competing, share.to(log_confidence), log_confidence)
        chosen = competing.new_zeros(len(units))
        chosen[units.index[competing]] = True
        # Of a unit with options the other tokens do not count.
        counted = competing | ~chosen[units.index]
    mean = example_nll(-log_confidence[counted], units.index[counted], len(units), "mean")
    return (-mean).exp(), known_units(statistics, tokens).to(mean)


def option_nll(statistics: AnswerStatistics, tokens: SupervisedTokens) -> Tensor:
    """NLL of the correct option among the options, nats, for each unit; -1 without any, ``[U]``."""
    units, options, scores = tokens.units, tokens.options, statistics.option_scores
    found = statistics.log_confidence.new_full((len(units),), -1.0)
    if options is None or scores is None or not scores.shape[1]:
        return found
    competing = (options != NO_OPTION).any(1)
    right = options[competing] == tokens.targets[competing, None]
    logprob = scores[competing].log_softmax(1).masked_fill(~right, 0).sum(1)
    found[units.index[competing]] = (-logprob).clamp(min=0).to(found)
    return found


def judge(statistics: AnswerStatistics, tokens: SupervisedTokens) -> Tensor:
    """Confidence, whether correct, `option_nll`: of each unit, ``[3, U]``.

    The confidence is taken over the options where there are any (`confident_units`).
    """
    tokens = tokens.to(statistics.log_confidence.device)
    confidence, correct = confident_units(statistics, tokens, "options")
    return torch.stack([confidence, correct, option_nll(statistics, tokens)])


def own_answers(
    statistics: AnswerStatistics, tokens: SupervisedTokens, nll_reduction: NllReduction
) -> Tensor:
    """NLL of the model's own answer and whether that is right, of each unit, ``[2, U]``.

    Args:
        statistics: What the model says at the supervised tokens of a batch.
        tokens: Those tokens.
        nll_reduction: As in the loss.
    """
    tokens = tokens.to(statistics.log_confidence.device)
    index, n = tokens.units.index, len(tokens.units)
    own = example_nll(-statistics.log_confidence, index, n, nll_reduction)
    return torch.stack([own, known_units(statistics, tokens).to(own)])


@dataclass(frozen=True, slots=True, eq=False)
class OwnAnswers:
    """How sure a model was of what it would answer, and whether that was right.

    Attributes:
        nll: Of its own answers, reduced as the loss reduces it, nats, ``[n]``.
        correct: Fractions, ``[n]``.
    """

    nll: NDArray[np.float64]
    correct: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MeasuredAnswers:
    """The n answers of a data set, judged.

    Attributes:
        confidence: Fractions, ``[n]``: ``options`` where the answers have options, else ``mean``.
        correct: Whether each is right, ``[n]`` bool.
        nll: Of the correct option among the options, nats, ``[n]``; None if open-ended.
    """

    confidence: NDArray[np.float64]
    correct: NDArray[np.bool_]
    nll: NDArray[np.float64] | None

    @classmethod
    def of_units(cls, judged: NDArray[np.floating]) -> MeasuredAnswers | None:
        """What `judge` found of the units of a data set, ``[3, U]``; None without any.

        Where some have options, these alone are counted: one set, one definition of confidence.
        """
        if not judged.shape[1]:
            return None
        confidence, correct, nll = judged.astype(np.float64)
        # A softmax in single precision may pass 1 by its rounding.
        confidence, correct = confidence.clip(0, 1), correct == 1
        with_options = nll != -1
        if not with_options.any():
            return cls(confidence, correct, None)
        return cls(confidence[with_options], correct[with_options], nll[with_options])

    def metrics(self) -> dict[str, float]:
        """accuracy, ece (15 bins of equal width), brier, aurc: fractions; with options also nll.

        All nan where a confidence is, as of a training that has diverged.
        """
        from cogcalib.metrics import mean, standard_metrics

        every = standard_metrics()
        if not np.isfinite(self.confidence).all():
            return dict.fromkeys(self._names, float("nan"))
        found = {name: every[name](self.confidence, self.correct) for name in NAMES}
        return found if self.nll is None else {**found, "nll": mean(self.nll)}

    def estimates(self) -> dict[str, Estimate]:
        """The same with 95 % bootstrap intervals."""
        from cogcalib.metrics import Estimate, grouped_intervals, mean, standard_metrics

        every = standard_metrics()
        groups = {"confidence": ({n: every[n] for n in NAMES}, [self.confidence, self.correct])}
        if self.nll is not None:
            groups["nll"] = ({"nll": mean}, [self.nll])
        values = self.metrics()
        intervals = {k: v for of in grouped_intervals(groups).values() for k, v in of.items()}
        return {name: Estimate(value, *intervals[name]) for name, value in values.items()}

    @property
    def _names(self) -> tuple[str, ...]:
        return NAMES if self.nll is None else (*NAMES, "nll")


class EvaluatedUnits:
    """The units of a data set under evaluation, collected batch by batch.

    Processes are given some examples twice where these do not come out even, so that each example
    has its number.
    """

    def __init__(self) -> None:
        self._batches: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, judged: Tensor, numbers: Tensor, units: Units) -> None:
        """Take the units of a batch in.

        Args:
            judged: What `judge` found of them, ``[3, U]``.
            numbers: Of the examples, ``[E]``, -1 where there is nothing to judge.
            units: Of the batch.
        """
        self._batches.append((judged, numbers[units.example], units.within_example))

    def answers(self) -> MeasuredAnswers | None:
        """Those of all processes, each once; None without any. All processes wait for it."""
        local = [
            torch.cat([each.cpu() for each in part], -1).numpy()
            for part in zip(*self._batches, strict=True)
        ]
        gathered = [rows for rows in gather_object([local]) if rows]
        if not gathered:
            return None
        judged, number, place = (np.concatenate(part, -1) for part in zip(*gathered, strict=True))
        _, once = np.unique(np.stack([number, place]), axis=1, return_index=True)
        return MeasuredAnswers.of_units(judged[:, once[number[once] >= 0]])
