"""Checks of examples as text: a missing prompt or an empty answer is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset

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


def _columns_read(columns: set[str], text_field: str) -> Sequence[str]:
    """The columns TRL makes the tokens of, in its order of precedence."""
    if "input_ids" in columns:
        return ()
    if {"prompt", "completion"} <= columns:
        return ("prompt", "completion")
    return [c for c in ("messages", "conversations", text_field) if c in columns][:1]


def _flaw(value: str | Sequence[Mapping[str, Any]] | None, column: str) -> str | None:
    """What is missing, or None."""
    if value is None:
        return "is None"
    if isinstance(value, str):
        return "is empty" if column == "completion" and not value.strip() else None
    if not value:
        return "holds no message"
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
