"""Scoring: a model, or a backend, and examples in, predictions out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.inference.backend import Backend
from cogcalib.inference.transformers_backend import TransformersBackend
from cogcalib.modeling.shot_prompts import encode_asked, encode_open
from cogcalib.records import Example, Prediction, is_verbatim
from cogcalib.scoring.confidence_names import LETTER, TEXT
from cogcalib.scoring.config import DEFAULTS, ScoreSettings
from cogcalib.scoring.multiple_choice import read_letters, score_letters
from cogcalib.scoring.open_ended import (
    generate_answers,
    is_correct,
    read_generation,
    score_open_ended,
)
from cogcalib.scoring.option_likelihoods import score_continuations


def score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    settings: ScoreSettings = DEFAULTS,
) -> list[Prediction]:
    """Score a model on examples, all multiple choice or all open-ended.

    The model is put into evaluation mode, and back. Under ``accelerate launch`` every process must
    call this with the same examples; they share the work and each gets all predictions.

    Args:
        model: A Hugging Face causal language model, with or without an adapter.
        tokenizer: Its tokenizer.
        examples: Examples with distinct ids.
        settings: Names for the predictions, temperatures, batches.

    Returns:
        One prediction per example, in the order given.

    Raises:
        ValueError: If the two kinds are mixed, ids repeat, an example is longer than the model has
            positions, or a setting does not fit the kind.
    """
    return score_with(_backend(model, tokenizer, settings), examples, settings)


def score_with(
    backend: Backend, examples: Sequence[Example], settings: ScoreSettings = DEFAULTS
) -> list[Prediction]:
    """`score` whatever model can be asked, in any engine.

    A backend that shows no logits takes no temperature but 1. The confidence ``surface`` is left
    out of all predictions where it does not list every surface form of every question's options.

    Args:
        backend: The model; batches are its own affair.
        examples: Examples with distinct ids.
        settings: Names for the predictions, temperatures, way to answer.

    Returns:
        One prediction per example, in the order given.

    Raises:
        ValueError: As `score`, or if the backend cannot give what is needed.
    """
    check_examples(examples, settings.answer)
    if not examples:
        return []
    if examples[0].options is None:
        return score_open_ended(backend, examples, settings)
    if settings.answer == LETTER:
        return score_letters(backend, examples, settings)
    return score_continuations(backend, examples, settings)


def score_at(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    several: Sequence[ScoreSettings],
) -> list[list[Prediction]]:
    """`score` with several settings that differ in names and temperatures, one pass for all.

    Args:
        model, tokenizer: As `score`.
        examples: Multiple choice to be answered by letter, at least one, with distinct ids.
        several: At least one. `progress` is called for the first.

    Returns:
        For each of the settings what `score` returns, to the bit.

    Raises:
        ValueError: As `score`, or if the examples are not answered by letter, or the settings
            differ in how they are asked.
    """
    check_examples(examples, several[0].answer)
    if not takes_letters(examples) or {each.answer for each in several} != {LETTER}:
        raise ValueError("one pass for several temperatures needs questions answered by letter")
    first, *others = (
        replace(each, model_name="", run="", temperature={}, progress=None) for each in several
    )
    if any(other != first for other in others):
        raise ValueError(
            "settings of one pass may differ in model_name, run, temperature and progress alone, "
            f"got {first} and {next(other for other in others if other != first)}"
        )
    return read_letters(_backend(model, tokenizer, several[0]), examples, several)


def takes_letters(examples: Sequence[Example]) -> bool:
    """Whether all examples, of which there are some, are multiple choice."""
    return bool(examples) and all(example.options is not None for example in examples)


def answer_logits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    settings: ScoreSettings = DEFAULTS,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits that predict the gold answers, and the gold tokens: what temperatures are fitted on.

    Args:
        model: A Hugging Face causal language model, with or without an adapter.
        tokenizer: Its tokenizer.
        examples: Examples with distinct ids, all multiple choice or all open-ended, at least one.
        settings: Batches. Multiple choice is answered with the letter.

    Returns:
        Logits over the vocabulary, float32 [n, V], and token ids, int64 [n], in the order given.
        Multiple choice: n examples, each at its letter. Open-ended: n answer tokens, end tokens
        included (but not behind shots), example after example.

    Raises:
        ValueError: As `score`, or if there is no example or `settings.answer` is no letter.
    """
    check_examples(examples)
    if not examples:
        raise ValueError("examples is empty: there are no logits to collect")
    if settings.answer != LETTER:
        raise ValueError(f"answer must be {LETTER} to collect logits, got {settings.answer!r}")
    backend = _backend(model, tokenizer, settings)
    asked = (examples, tokenizer, backend.positions, settings.shots)
    encodings = encode_open(*asked)[0] if examples[0].options is None else encode_asked(*asked)
    # Of a letter the end token is not scored.
    gold = [row.answer_ids if row.option_ids is None else row.answer_ids[:1] for row in encodings]
    prompts = [row.prompt_ids for row in encodings]
    return _logits_of(backend, prompts, gold, settings)


def spoken_logits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    settings: ScoreSettings = DEFAULTS,
) -> tuple[NDArray[np.float32], list[list[int]], NDArray[np.bool_]]:
    """Logits that predict the model's own open-ended answers, token after token.

    Args:
        model, tokenizer, settings: As `answer_logits`.
        examples: Open-ended examples with distinct ids, at least one.

    Returns:
        Logits over the vocabulary, float32 [m, V], of m tokens, answer after answer; the tokens of
        each answer, as `score` generates it; and whether it is correct, [n].

    Raises:
        ValueError: As `score`.
    """
    backend = _backend(model, tokenizer, settings)
    asked = generate_answers(backend, examples, settings)
    said = [each.tokens for each in asked.generations]
    texts = [read_generation(each, tokenizer, asked.ends)[0] for each in asked.generations]
    right = [is_correct(text, example) for text, example in zip(texts, examples, strict=True)]
    logits, _ = _logits_of(backend, asked.prompts, said, settings)
    return logits, said, np.array(right)


def _logits_of(
    backend: TransformersBackend,
    prompts: Sequence[list[int]],
    answers: Sequence[list[int]],
    settings: ScoreSettings,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits that predict the tokens of answers, float32 [n, V], and these tokens, int64 [n]."""
    inputs = [[*prompt, *ids[:-1]] for prompt, ids in zip(prompts, answers, strict=True)]
    kept = [len(ids) for ids in answers]

    def work(batch: list[int], logits: Tensor) -> list[NDArray[np.float32]]:
        rows = logits.float().cpu().split([kept[index] for index in batch])
        return [row.numpy() for row in rows]

    rows = backend.read_logits(inputs, kept, work, progress=settings.progress)
    tokens = [token for ids in answers for token in ids]
    return np.concatenate(rows), np.array(tokens, dtype=np.int64)


def _backend(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: ScoreSettings
) -> TransformersBackend:
    return TransformersBackend(
        model, tokenizer, batch_size=settings.batch_size, share_prefix=settings.share_prefix
    )


def check_examples(examples: Sequence[Example], answer: str = LETTER) -> None:
    """Check what every way of scoring needs of its examples.

    Raises:
        ValueError: If ids repeat, multiple choice and open-ended are mixed, or `answer` asks
            open-ended questions for options, or prompts as written to be put otherwise.
    """
    repeated = [id for id, count in Counter(e.id for e in examples).items() if count > 1]
    if repeated:
        raise ValueError(f"examples must have distinct ids, {repeated[0]!r} comes more than once")
    kinds = {example.options is None for example in examples}
    if len(kinds) > 1:
        raise ValueError("examples must be all multiple choice or all open-ended, got both")
    if True in kinds and answer != LETTER:
        raise ValueError(f"answer={answer!r} is for questions with options, these are open-ended")
    if answer == TEXT and any(is_verbatim(example.preset) for example in examples):
        raise ValueError(
            "answer must be letter or label for rows as they are written, got text: their prompts "
            "show the options"
        )
