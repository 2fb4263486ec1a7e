"""Responses of OpenAI's interface, and the field ``cogcalib`` that each choice has beside it."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cogcalib.deployment.answer import Answer
from cogcalib.serving.asked import Served, ShownToken

UNREADABLE = "\ufffd"
LEAST_LOGPROB = -9999.0
"""What OpenAI's interface gives for a probability of 0, for which JSON has no number."""


def chat_reply(model: str, served: Sequence[Served], refuse_text: str | None) -> dict[str, Any]:
    """A ``chat.completion``.

    Args:
        model: Its name.
        served: Answers, one for each choice.
        refuse_text: Takes the place of an answer that abstains, unless None.
    """
    choices = []
    for index, each in enumerate(served):
        refused = _refused(each, refuse_text)
        message = {
            "role": "assistant",
            "content": refuse_text if refused else each.answer.answer,
            "refusal": refuse_text if refused else None,
        }
        logprobs = None if refused or each.shown is None else _chat_logprobs(each.shown)
        choices.append({"index": index, "message": message, **_rest(each, logprobs)})
    return _reply("chatcmpl", "chat.completion", model, choices, served)


def completion_reply(
    model: str, served: Sequence[Served], refuse_text: str | None
) -> dict[str, Any]:
    """A ``text_completion``; arguments as of `chat_reply`."""
    choices = []
    for index, each in enumerate(served):
        refused = _refused(each, refuse_text)
        logprobs = None if refused or each.shown is None else _logprobs(each.shown)
        text = refuse_text if refused else each.answer.answer
        choices.append({"index": index, "text": text, **_rest(each, logprobs)})
    return _reply("cmpl", "text_completion", model, choices, served)


def model_list(name: str, created: int, about: Mapping[str, Any]) -> dict[str, Any]:
    """The list of the one model there is, with what its calibration says."""
    model = {"id": name, "object": "model", "created": created, "owned_by": "cogcalib"}
    return {"object": "list", "data": [{**model, "cogcalib": dict(about)}]}


def to_json(content: Mapping[str, Any]) -> bytes:
    """A response's body."""
    return json.dumps(content, allow_nan=False).encode()


def confidence_field(answer: Answer) -> dict[str, Any]:
    """The field ``cogcalib`` of a choice: fractions, and whether the rule says not to answer."""
    return {
        "confidence": answer.confidence,
        "raw_confidence": answer.raw_confidence,
        "abstain": answer.abstain,
        "alternatives": [
            {"answer": each.answer, "probability": each.probability} for each in answer.alternatives
        ],
    }


def _refused(served: Served, refuse_text: str | None) -> bool:
    return refuse_text is not None and served.answer.abstain


def _rest(served: Served, logprobs: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "logprobs": logprobs,
        "finish_reason": "stop" if served.finished else "length",
        "cogcalib": confidence_field(served.answer),
    }


def _reply(
    prefix: str, kind: str, model: str, choices: list[dict[str, Any]], served: Sequence[Served]
) -> dict[str, Any]:
    # Prompts of one request and their answers.
    prompt = sum(each.prompt_tokens for each in served)
    answer = sum(each.answer_tokens for each in served)
    return {
        "id": f"{prefix}-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": prompt + answer,
        },
    }


def _chat_logprobs(shown: Sequence[ShownToken]) -> dict[str, Any]:
    content = [
        {
            **_chat_token(each.token, each.logprob),
            "top_logprobs": [_chat_token(*pair) for pair in each.top],
        }
        for each in shown
    ]
    return {"content": content, "refusal": None}


def _chat_token(token: str, logprob: float) -> dict[str, Any]:
    return {
        "token": token,
        "logprob": max(logprob, LEAST_LOGPROB),
        # Part of a character has no text of its own, and its bytes cannot be told from that.
        "bytes": None if UNREADABLE in token else list(token.encode()),
    }


def _logprobs(shown: Sequence[ShownToken]) -> dict[str, Any]:
    offsets, end = [], 0
    for each in shown:
        offsets.append(end)
        end += len(each.token)
    return {
        "tokens": [each.token for each in shown],
        "token_logprobs": [max(each.logprob, LEAST_LOGPROB) for each in shown],
        "top_logprobs": [
            # Of tokens with one text the most probable stays, which is the first.
            {token: max(value, LEAST_LOGPROB) for token, value in reversed(each.top)}
            for each in shown
        ],
        "text_offset": offsets,
    }
