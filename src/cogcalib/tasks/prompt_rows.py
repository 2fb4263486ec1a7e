"""Rows to train on, ``prompt`` and ``completion`` or ``messages``, as questions as they stand.

The rows are those of `CogCalibTrainer` and of `cogcalib.deployment.inputs`. Nothing is put into
words: prompt, completion and options keep every character, so that a model is asked the tokens that
it was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cogcalib.records import CHAT, VERBATIM, Example, Option, asked_text
from cogcalib.suggest import any_meant, slip
from cogcalib.tasks.read import Row

_KEYS = ("prompt", "completion", "messages")
_OPTIONAL = ("options", "aliases")
_TEMPLATE = {
    "tools": (list, "a list, or JSON of one"),
    "chat_template_kwargs": (Mapping, "keys and values"),
}
"""Keys beside messages that their chat template is given, and what they hold."""


def row_key(row: Row) -> str:
    """What makes two rows the same question, see `asked_text`: the prompt."""
    prompt, _ = _read(row)
    return asked_text(json.loads(prompt) if _is_conversation(row) else prompt)


def check_alike(rows: Sequence[Row]) -> None:
    """Raise unless all rows are texts or all conversations, all with options or all without.

    Raises:
        ValueError: Naming the first that differs from the first row, or cannot be read.
    """
    shapes = [(_is_conversation(row), row.values.get("options") is not None) for row in rows]
    names = (("a conversation", "a text"), ("has options", "has none"))
    for row, shape in zip(rows, shapes, strict=True):
        _read(row)
        for words, own, first in zip(names, shape, shapes[0], strict=True):
            if own != first:
                raise ValueError(
                    f"{row.place}: {words[not own]}, and {rows[0].place} {words[not first]}; rows "
                    "of one task must be alike"
                )


def build_row_example(task: str, row: Row, split: str, id: str) -> Example:
    """The question that a row holds, as it is written.

    A row has ``prompt`` and ``completion``, both texts or both messages, or ``messages``, the last
    the assistant's; ``options``, if the answer is one of some; ``aliases``, other accepted answers
    where it is none of them.

    Args:
        task: Its name.
        row: One row.
        split: Goes into `Example.split`.
        id: Goes into `Example.id`.

    Raises:
        ValueError: Naming file, row and key.
    """
    optional = (*_OPTIONAL, *_TEMPLATE) if _is_conversation(row) else _OPTIONAL
    if told := slip(row.values, optional):
        raise ValueError(f"{row.place}: {told}")
    prompt, answer = _read(row)
    options = _options(row, answer)
    aliases = row.values.get("aliases") or []
    if not isinstance(aliases, list) or not all(isinstance(each, str) for each in aliases):
        raise ValueError(f"{row.place}, aliases: must be a list of texts, got {aliases!r}")
    try:
        return Example(
            id=id,
            task=task,
            split=split,
            prompt=prompt,
            options=options,
            answer=answer,
            aliases=() if options else tuple(each for each in aliases if each.strip()),
            preset=VERBATIM + CHAT if _is_conversation(row) else VERBATIM,
        )
    except ValueError as error:
        raise ValueError(f"{row.place}: {error}") from error


def _is_conversation(row: Row) -> bool:
    return row.values.get("messages") is not None or isinstance(row.values.get("prompt"), list)


def _read(row: Row) -> tuple[str, str]:
    """The prompt as `Example` has it, and the answer."""
    values = row.values
    prompt, completion, messages = (values.get(key) for key in _KEYS)
    if (prompt is None) == (messages is None):
        there = ", ".join(key for key, value in values.items() if value is not None) or "nothing"
        worded = "; questions that are still to be worded need a task file"
        raise ValueError(
            f"{row.place}: must have prompt and completion, or messages, as rows to train on; it "
            f"has {there}{worded if 'question' in values else any_meant(values, _KEYS)}"
        )
    if messages is not None:
        talk = _messages(row, "messages", messages)
        prompt, completion = talk[:-1], talk[-1:]
    if isinstance(prompt, list):
        return _conversation(row, prompt, completion)
    for key, value in (("prompt", prompt), ("completion", completion)):
        if not isinstance(value, str) or not value.strip():
            raise ValueError(
                f"{row.place}, {key}: must be a text that is not empty, or, of both, messages; "
                f"got {value!r}"
            )
    return str(prompt), str(completion)


def _conversation(row: Row, prompt: Any, completion: Any) -> tuple[str, str]:
    asked, answered = _messages(row, "prompt", prompt), _messages(row, "completion", completion)
    if not any(str(each.get("content") or "").strip() for each in asked):
        raise ValueError(f"{row.place}: the messages before the answer are empty")
    if asked[-1]["role"] == "assistant":
        raise ValueError(f"{row.place}: the last message before the answer is the assistant's")
    (last, *more) = answered
    content = last.get("content")
    if more or last["role"] != "assistant" or not isinstance(content, str) or not content.strip():
        raise ValueError(
            f"{row.place}: the answer must be one message of the assistant's, a text that is not "
            f"empty, got {answered!r}"
        )
    beside = {key: row.values[key] for key in _TEMPLATE if row.values.get(key)}
    try:
        if isinstance(tools := beside.get("tools"), str):
            beside["tools"] = json.loads(tools)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{row.place}, tools: no valid JSON: {error}") from error
    for key, value in beside.items():
        wanted, said = _TEMPLATE[key]
        if not isinstance(value, wanted):
            raise ValueError(f"{row.place}, {key}: must be {said}, got {value!r}")
    return json.dumps({"messages": asked, **beside}, ensure_ascii=False), content


def _messages(row: Row, key: str, value: Any) -> list[Mapping[str, Any]]:
    def is_message(each: Any) -> bool:
        said = isinstance(each, Mapping) and each.get("role")
        return bool(said and (each.get("content") is not None or each.get("tool_calls")))

    if not isinstance(value, list) or not value or not all(map(is_message, value)):
        raise ValueError(
            f'{row.place}, {key}: must be messages {{"role": ..., "content": ...}}, got {value!r}'
        )
    return value


def _options(row: Row, answer: str) -> tuple[Option, ...] | None:
    given = row.values.get("options")
    if given is None:
        return None
    texts = isinstance(given, list) and all(
        isinstance(each, str) and each.strip() for each in given
    )
    if not texts or len({each.strip() for each in given}) < max(2, len(given)):
        raise ValueError(
            f"{row.place}, options: must be a list of two or more different completions such as "
            f"' A', got {given!r}"
        )
    if answer not in given:
        near = any(each.strip() == answer.strip() for each in given)
        hint = "; they must be written as the completion is, leading space included" if near else ""
        raise ValueError(
            f"{row.place}, completion: must be one of the options {given}, got {answer!r}{hint}"
        )
    return tuple(Option(each, each) for each in given)
