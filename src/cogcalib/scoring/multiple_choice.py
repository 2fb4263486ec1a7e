"""Multiple choice answered with a letter: three definitions of the model's confidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from cogcalib.inference.backend import Backend, FirstToken, whole_logits
from cogcalib.inference.logits import read_first_tokens, upcast
from cogcalib.modeling.encoding import surface_ids
from cogcalib.modeling.option_letters import Forms, encode_choices
from cogcalib.records import Example, Prediction
from cogcalib.scoring.confidence_names import MULTIPLE_CHOICE
from cogcalib.scoring.config import DEFAULTS, ScoreSettings


def score_letters(
    backend: Backend, examples: Sequence[Example], settings: ScoreSettings
) -> list[Prediction]:
    """Predictions read off the token that follows each prompt, see `predict_from_logits`.

    Raises:
        ValueError: As `cogcalib.scoring.score`, or if a temperature other than 1 is named and the
            backend shows no logits.
    """
    if set(settings.temperatures(MULTIPLE_CHOICE).values()) != {1.0}:
        return read_letters(backend, examples, [settings])[0]
    prompts, forms = _asked(backend, examples, settings)
    usual = [[ids[0] for ids in row] for row in forms]
    others = [[token for ids in row for token in ids[1:]] for row in forms]
    plain = backend.first_tokens(prompts, usual, others, progress=settings.progress)
    return _predict(dict.fromkeys(MULTIPLE_CHOICE, plain), examples, forms, settings)


def read_letters(
    backend: Backend, examples: Sequence[Example], several: Sequence[ScoreSettings]
) -> list[list[Prediction]]:
    """`score_letters` with several settings, one pass for all of them.

    Args:
        backend: The model; it must show its logits.
        examples: Examples with distinct ids.
        several: Of which the first says how to ask: they differ in names and temperatures.

    Raises:
        ValueError: As `score_letters`.
    """
    named = {name: t for each in several for name, t in each.temperature.items()}
    hot = whole_logits(backend, f"temperature {named}")
    scales = [each.temperatures(MULTIPLE_CHOICE) for each in several]
    prompts, forms = _asked(backend, examples, several[0])

    def work(batch: list[int], logits: Tensor) -> list[tuple[Prediction, ...]]:
        chosen, asked = [forms[index] for index in batch], [examples[index] for index in batch]
        read = [_at_temperatures(logits, chosen, scale) for scale in scales]
        rows = [
            _predict(tokens, asked, chosen, each)
            for tokens, each in zip(read, several, strict=True)
        ]
        return list(zip(*rows, strict=True))

    found = hot.read_logits(prompts, [1] * len(prompts), work, progress=several[0].progress)
    return [list(each) for each in zip(*found, strict=True)]


def _asked(
    backend: Backend, examples: Sequence[Example], settings: ScoreSettings
) -> tuple[list[list[int]], list[Forms]]:
    choices = encode_choices(examples, backend.tokenizer, backend.positions, settings.shots)
    return [row.prompt_ids for row in choices], [row.forms for row in choices]


def predict_from_logits(
    logits: NDArray[np.floating] | Tensor,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    settings: ScoreSettings = DEFAULTS,
) -> list[Prediction]:
    """Predictions read off logits at the answer position.

    Log-probabilities are logits too, so that an ensemble passes the log of its mean probability.

    Confidence, with p = softmax(logits / T) and each definition's own T:

    - ``vocab``: max_v p_v over the whole vocabulary.
    - ``options``: max_k p_k / sum_j p_j over the option letters' tokens, with leading space.
    - ``surface``: the same with p_k summed over the letter's surface forms ("A" and " A"); T
      divides the log of that sum.

    The answer is the arg max over the option tokens, whatever the definition; ``vocab`` shares it
    and its correctness, also where another token of the vocabulary is more likely still. `nll`
    (-log of the gold letter's share among the options) and `option_logprobs` (under the whole
    vocabulary) use the temperature of ``options``.

    Args:
        logits: Logits at the answer position, [n, V].
        examples: The n multiple-choice examples, in the same order.
        tokenizer: The tokenizer whose vocabulary the logits are over.
        settings: Names and temperatures.

    Raises:
        ValueError: If the shapes do not fit, an example is open-ended, or a temperature names no
            definition or is not positive.
    """
    values = upcast(torch.as_tensor(logits))
    if values.ndim != 2 or len(values) != len(examples):
        raise ValueError(
            f"logits must have shape [{len(examples)}, V] for {len(examples)} examples, "
            f"got {list(values.shape)}"
        )
    if not examples:
        return []
    forms = surface_ids(examples, tokenizer)
    read = _at_temperatures(values, forms, settings.temperatures(MULTIPLE_CHOICE))
    return _predict(read, examples, forms, settings)


def _at_temperatures(
    logits: Tensor, forms: Sequence[Forms], scale: Mapping[str, float]
) -> dict[str, list[FirstToken]]:
    """Definition -> the first tokens at its temperature; of ``surface`` those at temperature 1."""
    wanted = [[token for ids in row for token in ids] for row in forms]
    chosen = {**scale, "surface": 1.0}
    at = {
        t: read_first_tokens(logits if t == 1 else logits / t, wanted) for t in {*chosen.values()}
    }
    return {name: at[t] for name, t in chosen.items()}


def _predict(
    read: Mapping[str, Sequence[FirstToken]],
    examples: Sequence[Example],
    forms: Sequence[Forms],
    settings: ScoreSettings,
) -> list[Prediction]:
    """Predictions from the first tokens that each definition reads."""
    usual = [tuple(ids[:1] for ids in row) for row in forms]
    options = _log_probabilities(read["options"], usual)[..., 0]
    share = options.log_softmax(-1)
    log_confidence = {
        "vocab": torch.tensor([first.best for first in read["vocab"]], dtype=torch.float64),
        "options": share.amax(-1),
    }
    listed = zip(read["surface"], forms, strict=True)
    # All rows have the same definitions, so that their means are of the same questions.
    if all(token in first.scores for first, row in listed for ids in row for token in ids):
        temperature = settings.temperatures(MULTIPLE_CHOICE)["surface"]
        spelled = _log_probabilities(read["surface"], forms).logsumexp(-1) / temperature
        log_confidence["surface"] = spelled.log_softmax(-1).amax(-1)
    names = [name for name in MULTIPLE_CHOICE if name in log_confidence]
    fractions = [log_confidence[name].exp().clamp(max=1.0).tolist() for name in names]
    confidence = [dict(zip(names, row, strict=True)) for row in zip(*fractions, strict=True)]
    return choose(examples, settings, share.tolist(), options.tolist(), confidence)


def _log_probabilities(first: Sequence[FirstToken], forms: Sequence[Forms]) -> Tensor:
    """Of each option's tokens, [n, most options, most forms], -inf where there is none."""
    options = max(len(row) for row in forms)
    width = max(len(ids) for row in forms for ids in row)
    none = [-math.inf] * width
    rows = []
    for token, row in zip(first, forms, strict=True):
        found = [[token.log_probability(id) for id in ids] for ids in row]
        padded = [[*values, *none[len(values) :]] for values in found]
        rows.append(padded + [none] * (options - len(row)))
    return torch.tensor(rows, dtype=torch.float64)


def choose(
    examples: Sequence[Example],
    settings: ScoreSettings,
    share: Sequence[Sequence[float]],
    logprobs: Sequence[Sequence[float]],
    confidence: Sequence[dict[str, float]],
) -> list[Prediction]:
    """Predictions from each question's log shares, the largest of which is the answer.

    Args:
        examples: Multiple-choice examples.
        settings: Names.
        share: Log of each option's share among the options; more than there are options is ignored.
        logprobs: Log-probability of each option, likewise.
        confidence: Definition -> fraction.
    """
    predictions = []
    for row, example in enumerate(examples):
        letters = [option.letter for option in example.options or ()]
        shares = share[row][: len(letters)]
        prediction = letters[max(range(len(letters)), key=shares.__getitem__)]
        predictions.append(
            Prediction(
                id=example.id,
                task=example.task,
                split=example.split,
                answer=example.answer,
                prediction=prediction,
                correct=prediction == example.answer,
                nll=max(0.0, -shares[letters.index(example.answer)]),
                confidence=confidence[row],
                option_logprobs=tuple(logprobs[row][: len(letters)]),
                model=settings.model_name,
                run=settings.run,
            )
        )
    return predictions
