"""Raw answers: what a model itself says, before any calibration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from cogcalib.deployment.answer import TokenLogprob
from cogcalib.deployment.calibration_file import OPTIONS, AnswerFormat
from cogcalib.deployment.inputs import Question, RefusedInput
from cogcalib.inference.backend import Backend, Progress
from cogcalib.modeling.few_shot import end_tokens
from cogcalib.scoring.open_ended import read_generation


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """What the model itself says to a question.

    Attributes:
        question: The question.
        logprobs: Log-probability of each option under the whole vocabulary, the sum over its
            tokens, nats; empty if the answer was generated.
        chosen: Index of the most probable option; None if the answer was generated.
        text: That option as it was given, or the text generated.
        confidence: Definition -> fraction: ``options``, or ``mean`` and ``joint``.
        tokens: Of generated text, the end token included; empty with options.
        token_ids: Their ids.
        ended: Whether an end token ends the text, not the length limit; True with options.
    """

    question: Question
    logprobs: tuple[float, ...]
    chosen: int | None
    text: str
    confidence: Mapping[str, float]
    tokens: tuple[TokenLogprob, ...] = ()
    token_ids: tuple[int, ...] = ()
    ended: bool = True


Found = dict[int, RawAnswer]


def ask(
    backend: Backend,
    questions: Sequence[Question],
    answers: AnswerFormat,
    progress: Progress | None = None,
    *,
    first: int = 0,
) -> list[RawAnswer]:
    """Ask a model; the answers are in the order of the questions.

    Options of one token each are read off the token that follows the prompt, others judged by the
    sum of the log-probabilities of their tokens; without options the answer is generated greedily
    (`cogcalib.scoring`).

    Args:
        backend: The model.
        questions: Of any kinds.
        answers: How the model is asked.
        progress: Told of finished questions.
        first: Index of the first question, for messages.

    Raises:
        RefusedInput: If a question is longer than the model has positions, before any is asked,
            or the model gives no number.
    """
    check_room(questions, backend.positions, answers.max_new_tokens, first)
    kinds: dict[Callable[..., list[RawAnswer]], list[int]] = {}
    for index, question in enumerate(questions):
        kinds.setdefault(_way(question, answers), []).append(index)
    found: Found = {}
    for way, indices in kinds.items():
        counted = _counted(progress, len(found), len(indices))
        rows = way(backend, [questions[index] for index in indices], answers, counted)
        found.update(zip(indices, rows, strict=True))
    for index, row in found.items():
        if any(math.isnan(value) for value in row.confidence.values()):
            raise RefusedInput(
                first + index,
                "the model gives no number for its answer (NaN); load it in float32 or bfloat16",
            )
    return [found[index] for index in range(len(questions))]


def check_room(questions: Sequence[Question], limit: int | None, most: int, first: int = 0) -> None:
    """Check that every question and its answer fit into the model.

    Args:
        questions: The questions.
        limit: The model's positions, None if it has no limit.
        most: Longest generated answer, in tokens.
        first: Index of the first question, for the message.

    Raises:
        RefusedInput: Naming the first that does not fit, and the numbers.
    """
    for index, question in enumerate(questions, start=first):
        answer = max(map(len, question.option_ids), default=most)
        taken = len(question.prompt_ids) + answer
        if limit is not None and taken > limit:
            raise RefusedInput(
                index,
                f"prompt and answer take {taken} tokens ({len(question.prompt_ids)} + {answer}), "
                f"the model has {limit} positions; shorten the prompt",
            )


def _way(question: Question, answers: AnswerFormat) -> Callable[..., list[RawAnswer]]:
    if not question.options:
        if answers.kind == OPTIONS:
            raise ValueError("a question has no options, and the answers' kind is options")
        return _generated_in_chat if question.chat else _generated
    single = all(len(ids) == 1 for ids in question.option_ids)
    return _by_first_token if single else _by_likelihood


def _by_first_token(
    backend: Backend,
    questions: Sequence[Question],
    answers: AnswerFormat,
    progress: Progress | None,
) -> list[RawAnswer]:
    tokens = [[ids[0] for ids in question.option_ids] for question in questions]
    prompts = [list(question.prompt_ids) for question in questions]
    found = backend.first_tokens(prompts, tokens, progress=progress)
    return [
        _chosen(question, [first.log_probability(token) for token in row])
        for question, row, first in zip(questions, tokens, found, strict=True)
    ]


def _by_likelihood(
    backend: Backend,
    questions: Sequence[Question],
    answers: AnswerFormat,
    progress: Progress | None,
) -> list[RawAnswer]:
    options = [ids for question in questions for ids in question.option_ids]
    prompts = [list(each.prompt_ids) for each in questions for _ in each.option_ids]
    # Progress is told of options; a question is finished with its share of them.
    told = progress and (lambda done: progress(done * len(questions) // len(options)))
    rows = iter(backend.log_probabilities(prompts, options, progress=told))
    return [
        _chosen(question, [next(rows).sum().item() for _ in question.option_ids])
        for question in questions
    ]


def _chosen(question: Question, logprobs: Sequence[float]) -> RawAnswer:
    values = np.array(logprobs, dtype=np.float64)
    best = int(values.argmax())
    finite = np.isfinite(values[best])  # the softmax of nothing but -inf would warn
    confidence = {"options": min(1.0, float(softmax(values)[best])) if finite else math.nan}
    return RawAnswer(question, tuple(logprobs), best, question.options[best], confidence)


def _generated(
    backend: Backend,
    questions: Sequence[Question],
    answers: AnswerFormat,
    progress: Progress | None,
) -> list[RawAnswer]:
    return _generate(backend, questions, answers, progress, newline=not answers.multiline)


def _generated_in_chat(
    backend: Backend,
    questions: Sequence[Question],
    answers: AnswerFormat,
    progress: Progress | None,
) -> list[RawAnswer]:
    return _generate(backend, questions, answers, progress, newline=False)


def _generate(
    backend: Backend,
    questions: Sequence[Question],
    answers: AnswerFormat,
    progress: Progress | None,
    *,
    newline: bool,
) -> list[RawAnswer]:
    tokenizer = backend.tokenizer
    ends = end_tokens(tokenizer, newline=newline)
    prompts = [list(question.prompt_ids) for question in questions]
    found = backend.generate(prompts, ends, answers.max_new_tokens, progress=progress)
    spelt = _spelt(tokenizer, (token for each in found for token in each.tokens))
    rows = []
    for question, each in zip(questions, found, strict=True):
        text, confidence = read_generation(each, tokenizer, ends)
        pairs = zip(each.tokens, each.logprobs, strict=True)
        tokens = tuple(TokenLogprob(spelt[token], logprob) for token, logprob in pairs)
        ids, ended = tuple(each.tokens), each.tokens[-1] in ends
        rows.append(RawAnswer(question, (), None, text, confidence, tokens, ids, ended))
    return rows


def _spelt(tokenizer: object, tokens: Iterable[int]) -> dict[int, str]:
    distinct = sorted(set(tokens))
    texts = tokenizer.batch_decode([[token] for token in distinct])  # type: ignore[attr-defined]
    return dict(zip(distinct, texts, strict=True))


def _counted(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Progress of a part of the questions as progress of them all."""
    return progress and (lambda done: progress(before + min(done, total)))
