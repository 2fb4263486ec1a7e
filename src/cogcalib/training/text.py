"""Examples as text: a missing prompt or an empty answer is refused, a doubled token mended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from cogcalib.modeling.continuations import doubled_ends
from cogcalib.modeling.encoding import IGNORED
from cogcalib.training.logs import get_logger

logger = get_logger(__name__)
ASSISTANTS = ("assistant", "gpt")
"""Roles of the turns that are learnt; the second belongs to the key ``from``."""


def check_text(dataset: Dataset, name: str, text_field: str) -> None:
    """Raise ValueError for the first example that has no text where it should, or no answer.

    Args:
        dataset: The examples; tokenised ones pass.
        name: ``train``, ``calibration`` or an evaluation set's name.
        text_field: Name of the column of plain text.
    """
    for column in _columns_read(set(dataset.column_names), text_field):
        for index, value in enumerate(dataset[column]):
            flaw = _flaw(value, column)
            if flaw is not None:
                raise ValueError(f"{name} data set, example {index}: the {column} {flaw}")


def said_of_joined(dataset: Dataset, name: str) -> str:
    """What to say of answers that begin right behind a word or sign of their prompts.

    A model's own answer behind ``Answer:`` begins with a space, which is part of its first token;
    without it other tokens are learnt than those the model knows. Empty if none begins so.
    """
    columns = set(dataset.column_names)
    if not {"prompt", "completion"} <= columns or "input_ids" in columns:
        return ""
    joined = [
        f"...{prompt[-12:]}{completion[:12]}"
        for prompt, completion in zip(dataset["prompt"], dataset["completion"], strict=True)
        if isinstance(prompt, str) and isinstance(completion, str) and touch(prompt, completion)
    ]
    if not joined:
        return ""
    return (
        f"{name} data set: {len(joined)} of {len(dataset)} answers begin right behind their "
        f"prompts, without a space, the first as in {joined[0]!r}. The space is part of an "
        "answer's first token: write ' A' and not 'A', or end the prompt with a line end."
    )


def touch(prompt: str, completion: str) -> bool:
    """Whether two texts meet without white space, in a script that sets spaces between words."""
    last, first = prompt[-1:], completion[:1]
    return (
        last.isascii()
        and (last.isalnum() or last in ":?.!")
        and (first.isascii() and first.isalnum())
    )


def without_doubled(
    tokenised: Dataset, tokenizer: PreTrainedTokenizerBase, name: str, *, said: bool
) -> Dataset:
    """Examples with one start token and one end token where the tokenizing made several.

    TRL appends the end token to a text, a tokenizer set to do so another; and a text that begins
    with the start token gets it again. The NLL of an answer is a mean over its tokens: a second end
    token, which is certain, would halve that of a short one.

    Args:
        tokenised: Examples with ``input_ids`` and ``labels``, made of text.
        tokenizer: That made them.
        name: As in `check_text`.
        said: Whether to warn of them.
    """
    ends = [doubled_ends(ids, tokenizer) for ids in tokenised["input_ids"]]
    doubled = sum(map(any, ends))
    if not doubled:
        return tokenised
    if said:
        logger.warning(
            "%s data set: the tokens of %s of %s examples began with the start token twice, or "
            "ended with the end token twice, since the text has it or TRL appends it and the "
            "tokenizer does so too. Each is kept once, as in scoring.",
            name,
            doubled,
            len(ends),
        )
    beside = ("input_ids", "labels", "completion_mask", "assistant_masks", "attention_mask")
    columns = [column for column in beside if column in tokenised.column_names]

    def once(row: dict[str, Any], index: int) -> dict[str, Any]:
        first, more = ends[index]
        return {column: row[column][first : len(row[column]) - more] for column in columns}

    return tokenised.map(once, with_indices=True)


def warn_of_doubled(dataset: Dataset, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Say of examples tokenised before that they have a start or end token twice; they stay so."""
    doubled = 0
    for ids, labels in zip(dataset["input_ids"], dataset["labels"], strict=True):
        first, more = doubled_ends(ids, tokenizer)
        # What is not learnt at the end is padding.
        doubled += bool(first or (more and labels[-2] != IGNORED != labels[-1]))
    if doubled:
        logger.warning(
            "%s data set: %s of %s examples begin with the start token twice or end with the end "
            "token twice. They are trained as given; scoring keeps each once.",
            name,
            doubled,
            len(dataset),
        )


def _columns_read(columns: set[str], text_field: str) -> Sequence[str]:
    """The columns TRL makes the tokens of, in its order of precedence."""
    if "input_ids" in columns:
        return ()
    if {"prompt", "completion"} <= columns:
        return ("prompt", "completion")
    return [c for c in ("messages", "conversations", text_field) if c in columns][:1]


def _flaw(value: Any, column: str) -> str | None:
    """What is missing, or None."""
    if value is None:
        return "is None"
    if isinstance(value, str):
        return "is empty" if column == "completion" and not value.strip() else None
    if not isinstance(value, list):
        return f"must be text or a list of messages, got {value!r}"
    if not value:
        return "holds no message"
    if not all(isinstance(turn, Mapping) for turn in value):
        return f"must be text or a list of messages, got {value!r}"[:200]
    for position, turn in enumerate(value):
        if turn.get("tool_calls"):
            continue  # a call is what the turn says, it needs no content beside
        content = turn.get("content")
        content = turn.get("value") if content is None else content
        if content is None:
            return f"has no content in message {position}"
        role = turn.get("role") or turn.get("from")
        answers = role in ASSISTANTS or (column == "completion" and role != "tool")
        if answers and not _plain(content).strip():
            return f"is empty in message {position}, which is to be learnt"
    return None


def _plain(content: str | Sequence[Mapping[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content)
