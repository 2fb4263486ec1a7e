"""Rows of a data set as questions: a trainer's formats, with their answers left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from transformers import PreTrainedTokenizerBase

from cogcalib.deployment.calibration_file import AnswerFormat
from cogcalib.deployment.inputs import Question, RefusedInput, to_questions
from cogcalib.losses import NO_OPTION
from cogcalib.modeling.encoding import IGNORED
from cogcalib.training.collator import OPTION_IDS
from cogcalib.training.supervision import competing_start


def rows_to_questions(
    rows: Iterable[Any], tokenizer: PreTrainedTokenizerBase, answers: AnswerFormat
) -> list[Question]:
    """What is asked in rows to train on or to evaluate with.

    Args:
        rows: Mappings with ``prompt``, or ``messages``, of which an assistant's last message is
            left out, or ``input_ids`` and, where they include an answer, ``labels``; or anything
            else that `to_questions` takes.
        tokenizer: Of the model.
        answers: How the model is asked.

    Raises:
        RefusedInput: Naming the index of the first row that cannot be asked.
    """
    read = [_without_answer(row) for row in rows]
    text = [index for index, row in enumerate(read) if not _is_tokenised(row)]
    try:
        asked = to_questions([read[index] for index in text], tokenizer, answers)
    except RefusedInput as error:
        raise RefusedInput(text[error.index], error.problem) from error
    found = dict(zip(text, asked, strict=True))
    return [
        found[index] if index in found else _tokenised(index, row, tokenizer, answers)
        for index, row in enumerate(read)
    ]


def decode_options(
    before: int, options: Sequence[int], tokenizer: PreTrainedTokenizerBase
) -> tuple[str, ...]:
    """Options as text, as they follow a prompt whose last token is `before`.

    By itself, some tokenizers let a token lose the space that it begins with.
    """
    start = str(tokenizer.decode([before]))
    return tuple(str(tokenizer.decode([before, option])).removeprefix(start) for option in options)


def _is_tokenised(row: Any) -> bool:
    return isinstance(row, Mapping) and "input_ids" in row


def _without_answer(row: Any) -> Any:
    if not isinstance(row, Mapping) or "input_ids" in row:
        return row
    kept = {key: value for key, value in row.items() if value is not None}
    messages = kept.get("messages")
    if messages and messages[-1].get("role") == "assistant":
        kept["messages"] = messages[:-1]
    return kept


def _tokenised(
    index: int, row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, answers: AnswerFormat
) -> Question:
    ids, labels = list(row["input_ids"]), row.get("labels")
    start = None if labels is None else competing_start(labels, "turn")
    prompt = ids if start is None else ids[:start]
    if not prompt or (labels is not None and labels[0] != IGNORED):
        raise RefusedInput(index, "it has no prompt: all its tokens are labels")
    options = list(takewhile(lambda each: each != NO_OPTION, row.get(OPTION_IDS) or ()))
    texts = decode_options(prompt[-1], options, tokenizer)
    if not options and answers.options is not None:
        raise RefusedInput(index, f"needs {OPTION_IDS}: the model answers with one of its options")
    return Question(tuple(prompt), texts, tuple((each,) for each in options))
