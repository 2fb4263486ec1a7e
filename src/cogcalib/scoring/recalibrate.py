"""Fit post-hoc temperatures on a calibration split, one for each confidence definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.modeling.encoding import surface_ids
from cogcalib.posthoc import TemperatureScaling
from cogcalib.posthoc.temperature import token_log_probabilities
from cogcalib.records import Example
from cogcalib.scoring.confidence_names import LIKELIHOOD
from cogcalib.scoring.config import DEFAULTS, ScoreSettings
from cogcalib.scoring.posthoc import check_calibration
from cogcalib.scoring.score import answer_logits, spoken_logits


def fit_temperatures(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    calibration: Sequence[Example],
    settings: ScoreSettings = DEFAULTS,
) -> Mapping[str, TemperatureScaling]:
    """A temperature for each confidence definition, fitted by what the definition is judged by.

    ``options`` and ``surface`` are distributions over the possible answers: theirs minimise the NLL
    of the correct option. ``vocab`` shares its mass with tokens that answer nothing, and ``mean``
    and ``joint`` are of one generated answer: theirs minimise the log loss of the confidence, of
    whether that answer is correct (`TemperatureScaling.fit_confidence`). ``nll``, open-ended, is
    that of `Prediction.nll`, and minimises the NLL of the canonical answers' tokens.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        calibration: Examples of split ``calibration``, all multiple choice or all open-ended.
        settings: Batches.

    Returns:
        Name in `ScoreSettings.temperature` -> fitted scaling: ``vocab``, ``options`` and
        ``surface``; or ``mean``, ``joint`` and ``nll``.

    Raises:
        ValueError: If an example is of another split, or there is none.
    """
    check_calibration(calibration)
    asked = (model, tokenizer, calibration, settings)
    if calibration[0].options is not None:
        return fit_letter_temperatures(answer_logits(*asked)[0], calibration, tokenizer)
    likelihood = TemperatureScaling().fit(*answer_logits(*asked))
    logits, answers, right = spoken_logits(*asked)
    tokens, lengths = np.concatenate(answers), np.array([len(each) for each in answers])
    starts = np.cumsum(lengths) - lengths

    def joint(temperature: float) -> NDArray[np.float64]:
        return np.add.reduceat(token_log_probabilities(logits, tokens, temperature), starts)

    return {
        "mean": TemperatureScaling().fit_confidence(lambda t: joint(t) / lengths, right),
        "joint": TemperatureScaling().fit_confidence(joint, right),
        LIKELIHOOD: likelihood,
    }


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
    options = _option_logits(logits, first)
    likeliest = logits.argmax(axis=1)
    return {
        "vocab": TemperatureScaling().fit_confidence(
            lambda t: token_log_probabilities(logits, likeliest, t),
            options.argmax(axis=1) == np.array(gold),
        ),
        "options": TemperatureScaling().fit(options, gold),
        "surface": TemperatureScaling().fit(_option_logits(logits, forms), gold),
    }


def _option_logits(
    logits: NDArray[np.floating], forms: Sequence[Sequence[Sequence[int]]]
) -> NDArray[np.floating]:
    """Logits of the options, [n, most options]; an option that a question lacks has -inf."""
    width = max(len(row) for row in forms)
    options = np.full((len(forms), width), -np.inf, dtype=logits.dtype)
    for i, row in enumerate(forms):
        options[i, : len(row)] = [np.logaddexp.reduce(logits[i, list(ids)]) for ids in row]
    return options
