"""Questions of requests, asked in batches: calibrated answers and the log-probabilities behind."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cogcalib.deployment.answer import Answer
from cogcalib.deployment.calibrated import calibrate
from cogcalib.deployment.calibration_file import Calibration
from cogcalib.deployment.inputs import Question, RefusedInput, to_questions
from cogcalib.deployment.raw_answers import RawAnswer, ask, check_room
from cogcalib.inference.backend import Backend, WholeLogits
from cogcalib.records import PRESETS
from cogcalib.serving.api_errors import refused

Top = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """One question as a request asks it.

    Attributes:
        question: Its tokens.
        longest: Most tokens of a generated answer.
        listed: Most probable tokens to list beside each token; None without log-probabilities.
    """

    question: Question
    longest: int
    listed: int | None


@dataclass(frozen=True, slots=True)
class ShownToken:
    """A token of an answer.

    Attributes:
        token: Its text.
        logprob: Its log-probability, nats.
        top: Texts and log-probabilities of the most probable tokens in its place, in order. Two
            tokens may have one text: parts of characters.
    """

    token: str
    logprob: float
    top: Top = ()


@dataclass(frozen=True, slots=True)
class Served:
    """What a question is answered with.

    Attributes:
        answer: The calibrated answer.
        prompt_tokens: Number of tokens of the prompt.
        answer_tokens: Number of tokens of the answer.
        finished: Whether the answer is whole, not cut at its length limit.
        shown: The answer's tokens; None where log-probabilities were not asked for.
    """

    answer: Answer
    prompt_tokens: int
    answer_tokens: int
    finished: bool
    shown: tuple[ShownToken, ...] | None


class Answering:
    """A calibrated model that answers what requests ask.

    `read` and `answer` may run in two threads: each has a tokenizer of its own.

    Args:
        backend: The model.
        calibration: Of its confidence.
        most_prompt: Most tokens of a prompt; what the model takes if None.
    """

    def __init__(
        self, backend: Backend, calibration: Calibration, most_prompt: int | None = None
    ) -> None:
        self.backend, self.calibration = backend, calibration
        self._most_prompt = most_prompt
        self._tokenizer = copy.deepcopy(backend.tokenizer)

    @property
    def preset(self) -> str | None:
        """That words a lone message of a user; None if the model's chat template does."""
        own = self.calibration.answers.preset
        return PRESETS[0] if own is None and self._tokenizer.chat_template is None else own

    @property
    def longest(self) -> int:
        """Most tokens of a generated answer: the confidence is calibrated for such."""
        return self.calibration.answers.max_new_tokens

    def read(
        self, inputs: Sequence[Any], longest: int | None, listed: int | None, field: str
    ) -> list[Asked]:
        """Questions from what a request brings.

        Args:
            inputs: As `to_questions` takes them.
            longest: Most tokens of an answer; `longest` of the model if None.
            listed: Most probable tokens to list.
            field: The request's field that `longest` was given in.

        Raises:
            ApiError: 400, if they cannot be asked.
        """
        if longest is not None and longest > self.longest:
            raise refused(
                f"{field} must be at most {self.longest}, the longest answer that the model was "
                f"calibrated on, got {longest}",
                field,
            )
        most = longest or self.longest
        try:
            questions = to_questions(inputs, self._tokenizer, self.calibration.answers)
            check_room(questions, self.backend.positions, most)
        except RefusedInput as error:
            raise refused(_short(error.problem)) from error
        for question in questions:
            self._check(question, longest, listed, field)
        return [Asked(q, self.longest if q.options else most, listed) for q in questions]

    def answer(self, asked: Sequence[Asked]) -> list[Served]:
        """Answers to questions of one `longest`, in order.

        Raises:
            ValueError: If the model cannot be asked.
        """
        answers = replace(self.calibration.answers, max_new_tokens=asked[0].longest)
        raw = ask(self.backend, [each.question for each in asked], answers)
        found = calibrate(raw, self.calibration)
        ids = [_answer_ids(*pair) for pair in zip(raw, found, strict=True)]
        shown = self._shown(asked, raw, ids)
        return [
            Served(
                answer,
                len(each.question.prompt_ids),
                len(tokens),
                one.ended,
                shown.get(index),
            )
            for index, (each, one, answer, tokens) in enumerate(
                zip(asked, raw, found, ids, strict=True)
            )
        ]

    def _check(
        self, question: Question, longest: int | None, listed: int | None, field: str
    ) -> None:
        tokens = len(question.prompt_ids)
        if self._most_prompt is not None and tokens > self._most_prompt:
            raise refused(
                f"a prompt may have {self._most_prompt} tokens, got {tokens}",
                code="context_length_exceeded",
            )
        option = max(map(len, question.option_ids), default=0)
        if longest is not None and option > longest:
            raise refused(f"{field} is {longest}, and an option takes {option} tokens", field)
        if listed and not isinstance(self.backend, WholeLogits):
            raise refused(
                f"{self.backend.name} does not list other tokens exactly: ask for the "
                "log-probabilities of the answer alone"
            )

    def _shown(
        self, asked: Sequence[Asked], raw: Sequence[RawAnswer], ids: Sequence[tuple[int, ...]]
    ) -> dict[int, tuple[ShownToken, ...]]:
        """Index -> the answer's tokens, for questions that want them."""
        wanted = [index for index, each in enumerate(asked) if each.listed is not None]
        listing = [index for index in wanted if asked[index].listed]
        tops = dict(zip(listing, self._tops(asked, ids, listing), strict=True))
        rows = {}
        own = self._own(raw, ids, wanted)
        for index in wanted:
            texts = self._texts(ids[index])
            top = tops.get(index, [()] * len(texts))
            rows[index] = tuple(
                ShownToken(*row) for row in zip(texts, own[index], top, strict=True)
            )
        return rows

    def _own(
        self, raw: Sequence[RawAnswer], ids: Sequence[tuple[int, ...]], wanted: Sequence[int]
    ) -> dict[int, list[float]]:
        """Log-probabilities of the answers' own tokens, nats."""
        own: dict[int, list[float]] = {}
        several = []
        for index in wanted:
            if raw[index].chosen is None:
                own[index] = [token.logprob for token in raw[index].tokens]
            elif len(ids[index]) == 1:
                options = raw[index].question.option_ids
                own[index] = [raw[index].logprobs[options.index(ids[index])]]
            else:
                several.append(index)
        if several:
            prompts = [list(raw[index].question.prompt_ids) for index in several]
            found = self.backend.log_probabilities(prompts, [ids[index] for index in several])
            own |= {i: row.tolist() for i, row in zip(several, found, strict=True)}
        return own

    def _tops(
        self, asked: Sequence[Asked], ids: Sequence[tuple[int, ...]], listing: Sequence[int]
    ) -> list[list[Top]]:
        """The most probable tokens in the place of each token, in one more pass."""
        if not listing:
            return []
        backend = self.backend
        if not isinstance(backend, WholeLogits):
            raise TypeError(f"{backend.name} gives no logits")
        sequences = [[*asked[i].question.prompt_ids, *ids[i][:-1]] for i in listing]
        lengths = [len(ids[index]) for index in listing]

        def work(batch: list[int], logits: Tensor) -> list[list[tuple[list[int], list[float]]]]:
            parts = logits.log_softmax(-1).split([lengths[index] for index in batch])
            return [
                _best(part, asked[listing[index]].listed or 0)
                for index, part in zip(batch, parts, strict=True)
            ]

        found = backend.read_logits(sequences, lengths, work)
        return [
            [tuple(zip(self._texts(best), values, strict=True)) for best, values in row]
            for row in found
        ]

    def _texts(self, ids: Sequence[int]) -> list[str]:
        texts: list[str] = self.backend.tokenizer.batch_decode([[each] for each in ids])
        return texts


def _best(logprobs: Tensor, most: int) -> list[tuple[list[int], list[float]]]:
    best = torch.topk(logprobs, min(most, logprobs.shape[-1]))
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))


def _answer_ids(raw: RawAnswer, answer: Answer) -> tuple[int, ...]:
    """The answer's tokens; a vector scaling may have chosen another option than the model."""
    if raw.chosen is None:
        return raw.token_ids
    return raw.question.option_ids[raw.question.options.index(answer.answer)]


def _short(message: str) -> str:
    """A message without much of what the client sent itself."""
    return message if len(message) <= 500 else f"{message[:500]} ..."
