"""Fit post-hoc temperatures on a calibration split, one for each confidence definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.modeling.encoding import surface_ids
from cogcalib.posthoc import TemperatureScaling
from cogcalib.records import Example
from cogcalib.scoring.config import DEFAULTS, ScoreSettings
from cogcalib.scoring.score import answer_logits


def fit_temperatures(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    calibration: Sequence[Example],
    settings: ScoreSettings = DEFAULTS,
) -> Mapping[str, TemperatureScaling]:
    """Temperatures that minimise the NLL of the gold answers, by confidence definition.

    Each definition is a softmax over its own support, so each gets its own temperature: over the
    vocabulary a temperature also moves mass to tokens that are no options.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        calibration: Examples of split ``calibration``, all multiple choice or all open-ended.
        settings: Batches.

    Returns:
        Definition -> fitted scaling: ``vocab``, ``options`` and ``surface``, or ``mean`` and
        ``joint``, which share one.

    Raises:
        ValueError: If an example is of another split, or there is none.
    """
    check_calibration(calibration)
    logits, tokens = answer_logits(model, tokenizer, calibration, settings)
    if calibration[0].options is not None:
        return fit_letter_temperatures(logits, calibration, tokenizer)
    vocabulary = TemperatureScaling().fit(logits, tokens)
    return {"mean": vocabulary, "joint": vocabulary}


def fit_letter_temperatures(
    logits: NDArray[np.floating],
    calibration: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
) -> Mapping[str, TemperatureScaling]:
    """`fit_temperatures` of multiple choice, to logits at the answer position.

    Log-probabilities are logits too: of an average of several models they are the log of its mean
    probability.

    Args:
        logits: Over the vocabulary, [n, V].
        calibration: The n questions, in the same order, of split ``calibration``.
        tokenizer: The tokenizer whose vocabulary the logits are over.
    """
    check_calibration(calibration)
    letters = [[option.letter for option in example.options or ()] for example in calibration]
    gold = [row.index(example.answer) for row, example in zip(letters, calibration, strict=True)]
    forms = surface_ids(calibration, tokenizer)
    first = [[ids[:1] for ids in row] for row in forms]
    tokens = [row[at][0] for row, at in zip(forms, gold, strict=True)]
    return {
        "vocab": TemperatureScaling().fit(logits, tokens),
        "options": TemperatureScaling().fit(_option_logits(logits, first), gold),
        "surface": TemperatureScaling().fit(_option_logits(logits, forms), gold),
    }


def check_calibration(calibration: Sequence[Example]) -> None:
    """Raise a ValueError unless there are examples, and all are of split ``calibration``."""
    if not calibration:
        raise ValueError("calibration is empty: there is nothing to fit")
    strangers = [example.id for example in calibration if example.split != "calibration"]
    if strangers:
        raise ValueError(
            f"temperatures are fitted on the calibration split only; {len(strangers)} of "
            f"{len(calibration)} examples are of another, the first {strangers[0]!r}"
        )


def _option_logits(
    logits: NDArray[np.floating], forms: Sequence[Sequence[Sequence[int]]]
) -> NDArray[np.floating]:
    """Logits of the options, [n, most options]; an option that a question lacks has -inf."""
    width = max(len(row) for row in forms)
    options = np.full((len(forms), width), -np.inf, dtype=logits.dtype)
    for i, row in enumerate(forms):
        options[i, : len(row)] = [np.logaddexp.reduce(logits[i, list(ids)]) for ids in row]
    return options
