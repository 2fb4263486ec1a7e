"""Held-out questions, with their answers or without: read, checked, and graded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cogcalib.deployment.calibration_file import OPEN_ENDED, OPTIONS, AnswerFormat
from cogcalib.deployment.inputs import Question, RefusedInput, to_questions
from cogcalib.deployment.question_files import QuestionRow, read_question_file
from cogcalib.deployment.raw_answers import RawAnswer, check_room
from cogcalib.deployment.seen_questions import question_hashes, set_hash
from cogcalib.inference.backend import Progress
from cogcalib.records import PRESETS, InputError
from cogcalib.suggest import any_meant, slip
from cogcalib.tasks.match import exact_match

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Told = Callable[[int, int], None] | None
"""Told of finished questions, and of how many there are."""

FEWEST = 50
"""Questions below which nothing is fitted or promised: chance would decide."""

COMPLETION, ANSWER = ANSWER_KEYS = ("completion", "answer")
"""Keys of a row's gold answer: behind a prompt, and of a question."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Questions that the model was not trained on, and what is correct.

    Attributes:
        name: Of the file, without its folder.
        questions: Ready to be asked.
        accepted: Of each the answers that are correct: indices of its options, or texts.
        hashes: `question_hashes` of them.
    """

    name: str
    questions: list[Question]
    accepted: list[tuple[int, ...] | tuple[str, ...]]
    hashes: list[str]

    @property
    def sha256(self) -> str:
        """Of the questions, whatever their order."""
        return set_hash(self.hashes)

    def gold(self) -> NDArray[np.int64]:
        """Index of the correct option of each question, [n]; for questions with options."""
        return np.array([row[0] for row in self.accepted], dtype=np.int64)

    def correct(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Whether each answer is correct, [n]: the option as it was given, or a text that matches
        (`exact_match`)."""
        rows = zip(texts, self.questions, self.accepted, strict=True)
        return np.array(
            [
                text == question.options[int(accepted[0])]
                if question.options
                else exact_match(text, map(str, accepted))
                for text, question, accepted in rows
            ]
        )

    def grade(self, answers: Sequence[RawAnswer]) -> NDArray[np.bool_]:
        """Whether each of the model's own answers is correct, [n].

        Raises:
            InputError: If all are, or none is: there is nothing to tell apart.
        """
        correct = self.correct([answer.text for answer in answers])
        if correct.all() or not correct.any():
            how = "every" if correct.all() else "no"
            raise InputError(
                f"{self.name}: {how} answer of the model is correct, of {len(correct)}; confidence "
                "can only be judged where some are and some are not"
            )
        return correct


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Questions whose answers nobody looks at.

    Attributes:
        name: Of the file, without its folder.
        questions: Ready to be asked.
        hashes: `question_hashes` of them.
        unread: Keys of answers that rows bring all the same.
    """

    name: str
    questions: list[Question]
    hashes: list[str]
    unread: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Of the questions, whatever their order."""
        return set_hash(self.hashes)


def counted(progress: Told, total: int) -> Progress | None:
    """Progress as a backend tells it."""
    return progress and (lambda done: progress(done, total))


def read_rows(path: Path) -> list[QuestionRow]:
    """The rows of a JSONL, CSV or Parquet file.

    Raises:
        InputError: If it is missing or damaged, or has fewer than `FEWEST` rows.
    """
    try:
        rows = list(read_question_file(path))
    except (ValueError, FileNotFoundError) as error:
        raise InputError(str(error)) from error
    if len(rows) < FEWEST:
        raise InputError(f"{path.name} must hold at least {FEWEST} rows, got {len(rows)}")
    return rows


def answer_format(rows: Sequence[QuestionRow]) -> AnswerFormat:
    """How a model is asked that has no calibration yet, by the rows it is measured on.

    With options if the first row brings some; prompts that all bring the same ones need none later.
    """
    first = rows[0].value
    preset = PRESETS[0] if "question" in first else None
    if first.get("options") is None:
        return AnswerFormat(OPEN_ENDED, "mean", preset=preset)
    given = [row.value.get("options") for row in rows]
    shared = preset is None and all(each == given[0] for each in given)
    return AnswerFormat(
        OPTIONS, "options", preset=preset, options=tuple(given[0]) if shared else None
    )


def held_out(
    name: str,
    rows: Sequence[QuestionRow],
    tokenizer: PreTrainedTokenizerBase,
    answers: AnswerFormat,
    seen: Mapping[str, frozenset[str]],
    positions: int | None = None,
) -> HeldOut:
    """Questions out of rows with a gold answer.

    Beside what `to_questions` reads, a row of ``prompt`` has the gold answer as its ``completion``,
    of ``messages`` as the assistant's last, of ``question`` as ``answer``: an option's letter or
    text, or a text. ``aliases`` may list other accepted texts.

    Args:
        name: Of the file.
        rows: Its rows.
        tokenizer: Of the model.
        answers: How the model is asked.
        seen: What hashes are of, for messages -> hashes of questions that must not be among these.
        positions: Tokens that a prompt and its answer may take; None if there is no limit.

    Raises:
        InputError: Naming the row: without a gold answer, or one that is none of the options, asked
            twice, seen before, or too long.
    """
    split = [_without_answer(row) for row in rows]
    values = [value for value, _ in split]
    questions, hashes = _ready(rows, values, tokenizer, answers, positions)
    _check_distinct(rows, hashes)
    _check_unseen(rows, hashes, seen)
    accepted: list[tuple[int, ...] | tuple[str, ...]] = []
    for row, (_, gold), question in zip(rows, split, questions, strict=True):
        aliases = row.value.get("aliases")
        if question.options:
            accepted.append((_index(gold, question, row),))
        else:
            accepted.append((gold, *map(str, aliases if isinstance(aliases, list) else ())))
    return HeldOut(name, questions, accepted, hashes)


def without_answers(
    name: str,
    rows: Sequence[QuestionRow],
    tokenizer: PreTrainedTokenizerBase,
    answers: AnswerFormat,
    seen: Mapping[str, frozenset[str]],
    positions: int | None = None,
) -> Unlabelled:
    """Questions out of rows as `cogcalib predict` reads them; one may come more than once.

    Args:
        name, rows, tokenizer, answers, seen, positions: As `held_out` takes them.

    Raises:
        InputError: Naming the row: one that cannot be asked, was seen before, or is too long.
    """
    values = [row.value for row in rows]
    questions, hashes = _ready(rows, values, tokenizer, answers, positions)
    _check_unseen(rows, hashes, seen)
    unread = [key for key in ANSWER_KEYS if any(each.get(key) is not None for each in values)]
    return Unlabelled(name, questions, hashes, tuple(unread))


def _ready(
    rows: Sequence[QuestionRow],
    values: Sequence[Any],
    tokenizer: PreTrainedTokenizerBase,
    answers: AnswerFormat,
    positions: int | None,
) -> tuple[list[Question], list[str]]:
    """The rows' values as questions, and the hashes of these."""
    try:
        questions = to_questions(values, tokenizer, answers)
        check_room(questions, positions, answers.max_new_tokens)
    except RefusedInput as error:
        raise InputError(f"{rows[error.index].place}: {error.problem}") from error
    return questions, question_hashes([each.prompt_ids for each in questions], tokenizer)


def _without_answer(row: QuestionRow) -> tuple[Any, str]:
    """The row as a prediction's input, and its gold answer."""
    value = dict(row.value)
    if told := slip(value, ("aliases",)):
        raise InputError(f"{row.place}: {told}")
    if value.get("messages"):
        *before, last = value["messages"]
        if isinstance(last, Mapping) and last.get("role") == "assistant":
            value["messages"], gold = before, last.get("content")
        else:
            raise InputError(f"{row.place}: the last message must be the assistant's, the answer")
    else:
        key = ANSWER if value.get("question") is not None else COMPLETION
        gold = value.get(key)
        if isinstance(gold, list) and len(gold) == 1 and isinstance(gold[0], Mapping):
            gold = gold[0].get("content")
        if gold is None:
            raise InputError(
                f"{row.place}: has no {key}: held-out questions need their answer"
                f"{any_meant(value, (key,))}"
            )
    if not isinstance(gold, str | int) or isinstance(gold, bool) or not str(gold).strip():
        raise InputError(f"{row.place}: the answer must be a text, got {gold!r}")
    return value, str(gold)


def _index(gold: str, question: Question, row: QuestionRow) -> int:
    """The option that a gold answer names: by its label, its letter, or its text."""
    given = row.value.get("options")
    names = [list(question.options)]
    if row.value.get("question") is not None:
        letters = list(ascii_uppercase[: len(question.options)])
        texts = given.values() if isinstance(given, Mapping) else ()
        names += [[str(text) for text in texts if text is not None] or letters]
    for labels in names:
        stripped = [label.strip() for label in labels]
        if gold.strip() in stripped:
            return stripped.index(gold.strip())
    raise InputError(
        f"{row.place}: the answer must be one of the options "
        f"{', '.join(map(repr, question.options))}, got {gold!r}"
    )


def _check_distinct(rows: Sequence[QuestionRow], hashes: Sequence[str]) -> None:
    first: dict[str, QuestionRow] = {}
    for row, each in zip(rows, hashes, strict=True):
        if each in first:
            raise InputError(
                f"{row.place}: asks the same as {first[each].place}; held-out questions must be "
                "independent, leave one out"
            )
        first[each] = row


def _check_unseen(
    rows: Sequence[QuestionRow], hashes: Sequence[str], seen: Mapping[str, frozenset[str]]
) -> None:
    for what, known in seen.items():
        again = [row for row, each in zip(rows, hashes, strict=True) if each in known]
        if again:
            raise InputError(
                f"{again[0].place}: the model {what} this question; {len(again)} of {len(rows)} "
                "are such. Leave them out: confidence must be judged on questions that are new"
            )
