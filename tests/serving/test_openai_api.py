"""Requests: what is read, what is refused and how; garbage of any kind is refused, never raised."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cogcalib.serving.api_errors import ApiError
from cogcalib.serving.openai_api import ChatRequest, CompletionRequest, invalid

USER = {"role": "user", "content": "Where is Lyon?"}
CHAT: dict[str, Any] = {"model": "atlas", "messages": [USER]}
COMPLETION: dict[str, Any] = {"model": "atlas", "prompt": "Lyon is in"}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
fields = sorted({*ChatRequest.model_fields, *CompletionRequest.model_fields, "options", "x"})


def read(kind: type[ChatRequest] | type[CompletionRequest], body: bytes | str) -> Any:
    """The inputs that a request leads to; refuses as the server does."""
    try:
        request = kind.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from None
    request.check()
    request.longest()
    request.listed()
    return request.inputs("cogcalib")


def refusal(kind: type[ChatRequest] | type[CompletionRequest], body: bytes | str) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read(kind, body)
    assert caught.value.status == 400
    assert len(caught.value.body()) < 2000
    return caught.value


def test_requests_as_clients_send_them() -> None:
    harmless = {
        "temperature": 0, "top_p": 1, "n": 1, "stream": False, "seed": 3, "user": "u",
        "stop": None, "frequency_penalty": 0, "logit_bias": {}, "max_tokens": 4,
    }  # fmt: skip
    assert read(ChatRequest, json.dumps({**CHAT, **harmless, "tools": []})) == [
        {"question": "Where is Lyon?", "options": None}
    ]
    parts = [{"type": "text", "text": "Where "}, {"type": "text", "text": "is Lyon?"}]
    asked = {**CHAT, "messages": [{"role": "user", "content": parts}], "options": ["x", "y"]}
    assert read(ChatRequest, json.dumps(asked)) == [
        {"question": "Where is Lyon?", "options": ["x", "y"]}
    ]
    system = {"role": "system", "content": "Be brief."}
    assert read(ChatRequest, json.dumps({**CHAT, "messages": [system, USER]})) == [
        {"messages": [system, USER], "options": None}
    ]
    both = {**COMPLETION, **harmless, "prompt": ["a", "b"], "options": [" A", " B"]}
    assert read(CompletionRequest, json.dumps(both)) == [
        {"prompt": prompt, "options": [" A", " B"]} for prompt in ("a", "b")
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"n": 2}, "n must be 1"),
        ({"stream": True}, "stream must be false"),
        ({"temperature": 0.7}, "temperature must be 0 or 1"),
        ({"top_p": 0.9}, "top_p must be 1"),
        ({"stop": ["\n"]}, "stop must be left out"),
        ({"tools": [{"type": "function"}]}, "tools must be left out"),
        ({"tool_choice": "required"}, "tool_choice must be left out"),
        ({"response_format": {"type": "json_object"}}, 'response_format must be {"type": "text"}'),
        ({"logit_bias": {"5": 1.0}}, "logit_bias must be left out"),
        ({"presence_penalty": 0.5}, "presence_penalty must be 0"),
        ({"top_logprobs": 3}, "top_logprobs needs logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs: "),
        ({"max_tokens": 0}, "max_tokens: "),
        ({"max_tokens": 1e300}, "max_tokens: "),
        ({"max_tokens": True}, "max_tokens: "),
        ({"temperature": float("nan")}, "temperature"),
        ({"reasoning_effort": "high"}, "reasoning_effort is not supported"),
        ({"messages": []}, "messages: "),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role: "),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0."),
        ({"messages": [USER, {"role": "assistant", "content": "x"}]}, "must be the user's"),
        ({"messages": "hello"}, "messages: "),
        ({"options": ["one"]}, "options"),
        ({"options": ["", "b"]}, "options"),
        ({"options": 5}, "options"),
        ({"model": 5}, "model: "),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused(change: dict[str, Any], told: str) -> None:
    assert told in refusal(ChatRequest, json.dumps({**CHAT, **change})).message


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, 2, 3]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["x"] * 129}, "prompt"),
        ({"echo": True}, "echo must be left out"),
        ({"best_of": 4}, "best_of must be 1"),
        ({"suffix": "x"}, "suffix must be left out"),
        ({"logprobs": 21}, "logprobs: "),
        ({"logprobs": True}, "logprobs: "),
        ({"messages": [USER]}, "messages is not supported"),
    ],
)
def test_what_a_completion_cannot_honour_is_refused(change: dict[str, Any], told: str) -> None:
    assert told in refusal(CompletionRequest, json.dumps({**COMPLETION, **change})).message


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe\x00", b"NaN", b"{}",
        b"[" * 100_000, b'{"a":' * 100_000,
        b'{"model": "atlas", "prompt": "\\ud800"}',
        b'{"model": "atlas", "prompt": "x", "options": ["\\udfff", "b"]}',
        b'{"model": "atlas", "prompt": "x", "temperature": 1e999}',
        b'{"model": "atlas", "prompt": "x", "seed": ' + b"9" * 100_000 + b"}",
        b'{"model": "atlas", "prompt": "x", "prompt": 5}',
    ],
)  # fmt: skip
def test_garbage_is_refused(body: bytes) -> None:
    assert refusal(CompletionRequest, body).kind == "invalid_request_error"


@given(
    st.sampled_from([(ChatRequest, CHAT), (CompletionRequest, COMPLETION)]),
    st.dictionaries(st.sampled_from(fields), json_values, max_size=4),
)
def test_nothing_but_a_refusal_comes_of_any_json(base: Any, change: dict[str, Any]) -> None:
    kind, body = base
    sent = json.dumps({**body, **change})
    try:
        inputs = read(kind, sent)
    except ApiError:
        refusal(kind, sent)
    else:
        assert inputs


@given(st.binary(max_size=200))
def test_nothing_but_a_refusal_comes_of_any_bytes(body: bytes) -> None:
    refusal(ChatRequest, body)
