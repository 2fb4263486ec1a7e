"""Conversations as prompts: a list of messages through the model's own chat template.

The text is the one TRL makes of such rows: the template alone, without special tokens around it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[Mapping[str, Any]]

_ANSWER = "ANSWER-OF-THE-ASSISTANT"
"""Stands for an answer while it is looked up where answers stand."""

TEMPLATE_KEYS = ("tools", "chat_template_kwargs")
"""Keys of a row that its chat template is given beside its messages."""


def template_inputs(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row gives the chat template beside its messages, as TRL reads it: ``tools``, a list or
    JSON, and ``chat_template_kwargs``.

    Raises:
        ValueError: Naming the key that holds something else.
    """
    given, tools = row.get("chat_template_kwargs") or {}, row.get("tools")
    if not isinstance(given, Mapping):
        raise ValueError(f"chat_template_kwargs must hold keys and values, got {given!r}")
    if not tools:
        return dict(given)
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"tools: no valid JSON: {error}") from error
    if not isinstance(tools, list):
        raise ValueError(f"tools must be a list, or JSON of one, got {tools!r}")
    return {**given, "tools": tools}


def read_conversation(text: str) -> tuple[Messages, dict[str, Any]]:
    """The messages of a prompt as written (`cogcalib.records.VERBATIM`), and `template_inputs`."""
    row = json.loads(text)
    return row["messages"], template_inputs(row)


def conversation_texts(
    messages: Messages,
    answers: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    given: Mapping[str, Any] | None = None,
) -> tuple[str, list[str]]:
    """A conversation up to where the assistant answers, and each answer as it would follow.

    A template may put more than the answer behind its opened turn, such as empty thoughts: that is
    part of what follows, as in training.

    Args:
        messages: ``{"role": ..., "content": ...}``, the last of them not the assistant's.
        answers: Contents of the assistant's next message.
        tokenizer: With a chat template.
        given: What the template takes besides, such as ``tools``.

    Raises:
        ValueError: If there is no chat template, it refuses the messages, or it does not show an
            answer as a whole.
    """
    if tokenizer.chat_template is None:
        raise ValueError(
            "messages need an instruct model: the tokenizer has no chat template; give a prompt"
        )
    opened = opened_text(messages, tokenizer, given)
    if not answers:
        return opened, []

    head, tail = _around(messages, tokenizer, given)
    prompt = opened if head.startswith(opened) else head
    texts = []
    for answer in answers:
        whole = _answered(messages, answer, tokenizer, given)
        if not (whole.startswith(head) and whole.endswith(tail) and head):
            raise ValueError(f"the chat template does not show the answer {answer!r} as a whole")
        texts.append(whole[len(prompt) : len(whole) - len(tail)])
    return prompt, texts


def turn_end(
    messages: Messages, tokenizer: PreTrainedTokenizerBase, given: Mapping[str, Any] | None = None
) -> str:
    """What the template puts behind an answer, which is learnt with it."""
    return _around(messages, tokenizer, given)[1]


def _around(
    messages: Messages, tokenizer: PreTrainedTokenizerBase, given: Mapping[str, Any] | None
) -> tuple[str, str]:
    """What stands before an answer, and what behind it."""
    head, _, tail = _answered(messages, _ANSWER, tokenizer, given).rpartition(_ANSWER)
    return head, tail


def _answered(
    messages: Messages,
    answer: str,
    tokenizer: PreTrainedTokenizerBase,
    given: Mapping[str, Any] | None,
) -> str:
    return _render([*messages, {"role": "assistant", "content": answer}], tokenizer, given)


def opened_text(
    messages: Messages, tokenizer: PreTrainedTokenizerBase, given: Mapping[str, Any] | None = None
) -> str:
    """A conversation up to where the assistant answers.

    Args:
        messages, tokenizer, given: As in `conversation_texts`.

    Raises:
        ValueError: If the template refuses the messages, or leaves out what the user asks.
    """
    text = _render(messages, tokenizer, given, add_generation_prompt=True)
    last = messages[-1] if messages else {}
    asked = last.get("content")
    if last.get("role") == "user" and isinstance(asked, str) and asked.strip() not in text:
        from cogcalib.suggest import cut  # not loaded with the trainer

        raise ValueError(
            f"the model's chat template leaves out the question: of {cut(asked)!r} it makes "
            f"{cut(text)!r}"
        )
    return text


def _render(
    messages: Messages,
    tokenizer: PreTrainedTokenizerBase,
    given: Mapping[str, Any] | None,
    **how: Any,
) -> str:
    from jinja2 import TemplateError

    try:
        return str(
            tokenizer.apply_chat_template(
                [dict(message) for message in messages], tokenize=False, **how, **(given or {})
            )
        )
    except (TemplateError, TypeError, ValueError, KeyError) as error:
        told = " ".join(str(error).split())
        raise ValueError(f"the model's chat template refuses the messages: {told}") from error
