"""Multiple choice whose options take several tokens: judged by their log-likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from transformers import PreTrainedTokenizerBase

from cogcalib.inference.backend import Backend
from cogcalib.modeling.continuations import continuations
from cogcalib.modeling.prompts import completion
from cogcalib.modeling.shot_prompts import as_texts, behind_shots, encode_asked
from cogcalib.modeling.shots import Prompt
from cogcalib.records import Example, Prediction
from cogcalib.scoring.confidence_names import TEXT
from cogcalib.scoring.config import ScoreSettings
from cogcalib.scoring.multiple_choice import choose

Continuation = tuple[list[int], list[int]]
"""Tokens of a prompt and of what follows it."""


def score_continuations(
    backend: Backend, examples: Sequence[Example], settings: ScoreSettings
) -> list[Prediction]:
    """Predictions from each option's log-likelihood: the sum of log p over its tokens.

    The prediction is the option with the largest sum, with `settings.length_normalized` the one
    with the largest mean over its tokens. Confidence has one definition, ``options``: the softmax
    over the options of what they are judged by, divided by the temperature. `nll` is -log of the
    gold option's share; `option_logprobs` are always the sums, at temperature 1.

    Raises:
        ValueError: As `cogcalib.scoring.score`, if a label's tokens merge with the prompt's,
            or a temperature names another definition.
    """
    settings.temperatures(("options",))
    rows = encode_options(examples, backend.tokenizer, backend.positions, settings)
    prompts, answers = zip(*(pair for row in rows for pair in row), strict=True)
    found = backend.log_probabilities(prompts, answers, progress=settings.progress)
    sums = iter(row.sum().item() for row in found)
    logprobs = [[next(sums) for _ in row] for row in rows]
    return predict_from_likelihoods(examples, rows, logprobs, settings)


def encode_options(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    limit: int | None,
    settings: ScoreSettings,
) -> list[list[Continuation]]:
    """Prompt and option of every option of every question, as `settings.answer` says.

    Raises:
        ValueError: If a label's tokens merge with the prompt's, one is longer than
            `limit` positions, or as `behind_shots`.
    """
    encode = _texts if settings.answer == TEXT else _labels
    return encode(examples, tokenizer, limit, settings.shots)


def predict_from_likelihoods(
    examples: Sequence[Example],
    rows: Sequence[Sequence[Continuation]],
    logprobs: Sequence[Sequence[float]],
    settings: ScoreSettings,
) -> list[Prediction]:
    """Predictions from the log-likelihood of each of `rows`, see `score_continuations`."""
    temperature = settings.temperatures(("options",))["options"]
    shares = []
    for row, values in zip(rows, logprobs, strict=True):
        lengths = [len(tokens) if settings.length_normalized else 1 for _, tokens in row]
        judged = [value / length for value, length in zip(values, lengths, strict=True)]
        scores = torch.tensor(judged, dtype=torch.float64) / temperature
        shares.append(scores.log_softmax(-1))
    confidence = [{"options": min(1.0, row.max().exp().item())} for row in shares]
    return choose(examples, settings, [row.tolist() for row in shares], logprobs, confidence)


def _texts(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    limit: int | None,
    shots: Prompt | None,
) -> list[list[Continuation]]:
    """Each option's text as the answer to the question alone."""
    asked = [
        replace(example, options=None, answer=option.text)
        for example in examples
        for option in example.options or ()
    ]
    # The end token is not scored: it belongs to no option.
    encoded = encode_asked(asked, tokenizer, limit, None if shots is None else as_texts(shots))
    pairs = iter((row.prompt_ids, row.answer_ids[:-1]) for row in encoded)
    return [[next(pairs) for _ in example.options or ()] for example in examples]


def _labels(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    limit: int | None,
    shots: Prompt | None,
) -> list[list[Continuation]]:
    """Each option's label after the prompt that shows the options."""
    labels = [
        [completion(example, option.letter) for option in example.options or ()]
        for example in examples
    ]
    rows: list[list[Continuation]] = []
    encoded = continuations(examples, labels, tokenizer)
    prompts = behind_shots(shots, examples, [prompt for prompt, _ in encoded], tokenizer)
    for example, prompt, (_, found) in zip(examples, prompts, encoded, strict=True):
        row = [(prompt, ids) for ids in found if ids]
        if len(row) < len(found):
            raise ValueError(
                f"example {example.id!r}: the tokenizer does not keep the option labels apart from "
                f"the prompt, their token ids are {found}"
            )
        longest = len(prompt) + max(len(ids) for _, ids in row)
        if limit is not None and longest > limit:
            raise ValueError(
                f"example {example.id!r}: prompt and label take {longest} tokens, the model has "
                f"{limit} positions"
            )
        rows.append(row)
    return rows
