"""Requests of OpenAI's interface: the fields that are honoured, and clear words for the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cogcalib.serving.api_errors import ApiError, refused

MOST_TOP_LOGPROBS = 20
MOST_OPTIONS = 64
MOST_PROMPTS = 128
MOST_MESSAGES = 1000
MOST_PARTS = 100

Text = Annotated[str, Field(min_length=1)]
Options = (
    Annotated[list[Text], Field(min_length=2, max_length=MOST_OPTIONS, fail_fast=True)]
    | Annotated[dict[Text, Text], Field(min_length=2, max_length=MOST_OPTIONS)]
)


class OpenAIRequest(BaseModel):
    """Fields of both endpoints; one that is not named anywhere is refused.

    Answers are greedy: a temperature of 0, or OpenAI's default of 1, changes nothing, and any
    other is refused, as is every field that would change the answer.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: Text
    options: Options | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: Any = None
    stop: Any = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Any = None
    # They change nothing about a greedy answer.
    seed: int | None = None
    user: str | None = None

    def check(self) -> None:
        """Refuse what would need another answer than the calibrated, greedy one.

        Raises:
            ApiError: 400, naming the field.
        """
        for field, allowed in _ALLOWED.items():
            value = getattr(self, field, None)
            if value not in allowed:
                raise refused(
                    f"{field} must be {_REASONS.get(field, 'left out')}", field, "unsupported_value"
                )


class TextPart(BaseModel):
    """A part of a message's content."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """A message, of text alone."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(max_length=MOST_PARTS, fail_fast=True)]
    name: None = None

    def plain(self) -> dict[str, str]:
        """Role and content, the content in one text."""
        if isinstance(self.content, str):
            return {"role": self.role, "content": self.content}
        return {"role": self.role, "content": "".join(part.text for part in self.content)}


class ChatRequest(OpenAIRequest):
    """A request to ``/v1/chat/completions``."""

    # The first that is wrong is told: to find all of a megabyte's would hold up everybody.
    messages: Annotated[
        list[ChatMessage], Field(min_length=1, max_length=MOST_MESSAGES, fail_fast=True)
    ]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_TOP_LOGPROBS)] | None = None
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    response_format: Any = None

    def listed(self) -> int | None:
        """Most probable tokens to list beside each token; None without log-probabilities."""
        if self.top_logprobs and not self.logprobs:
            raise refused("top_logprobs needs logprobs to be true", "top_logprobs")
        return (self.top_logprobs or 0) if self.logprobs else None

    def longest(self) -> tuple[int | None, str]:
        """Most tokens of the answer, and the field that says so."""
        if self.max_completion_tokens is not None:
            return self.max_completion_tokens, "max_completion_tokens"
        return self.max_tokens, "max_tokens"

    def inputs(self, preset: str | None) -> list[dict[str, Any]]:
        """What `cogcalib.deployment.inputs.to_questions` is given.

        A lone message of a user is a question where the model was calibrated on questions worded by
        a preset, and is worded by it, too.
        """
        messages = [message.plain() for message in self.messages]
        if messages[-1]["role"] != "user":
            raise refused("the last message must be the user's", "messages")
        if preset is not None and len(messages) == 1:
            return [{"question": messages[0]["content"], "options": self.options}]
        return [{"messages": messages, "options": self.options}]


class CompletionRequest(OpenAIRequest):
    """A request to ``/v1/completions``."""

    prompt: (
        Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_PROMPTS, fail_fast=True)]
    )
    logprobs: Annotated[int, Field(ge=0, le=MOST_TOP_LOGPROBS)] | None = None
    best_of: int | None = None
    echo: bool | None = None
    suffix: str | None = None

    def listed(self) -> int | None:
        """Most probable tokens to list beside each token; None without log-probabilities."""
        return self.logprobs

    def longest(self) -> tuple[int | None, str]:
        """Most tokens of an answer, and the field that says so."""
        return self.max_tokens, "max_tokens"

    def inputs(self, preset: str | None) -> list[dict[str, Any]]:
        """What `cogcalib.deployment.inputs.to_questions` is given: prompts, taken as they are."""
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        return [{"prompt": prompt, "options": self.options} for prompt in prompts]


_EMPTY: tuple[Any, ...] = (None, [], {}, "", False)
_ALLOWED: Mapping[str, tuple[Any, ...]] = {
    "temperature": (None, 0, 1),
    "top_p": (None, 1),
    "n": (None, 1),
    "best_of": (None, 1),
    "stream": (None, False),
    "stream_options": (None,),
    "stop": _EMPTY,
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "logit_bias": _EMPTY,
    "tools": _EMPTY,
    "tool_choice": (None, "none", "auto"),
    "functions": _EMPTY,
    "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "echo": _EMPTY,
    "suffix": _EMPTY,
}
_REASONS: Mapping[str, str] = {
    "temperature": "0 or 1: answers are greedy, and their confidence is calibrated for that",
    "top_p": "1: answers are greedy",
    "n": "1: greedy answers are all the same",
    "best_of": "1: greedy answers are all the same",
    "stream": "false: the confidence of an answer is known when all of it is",
    "presence_penalty": "0: answers are greedy",
    "frequency_penalty": "0: answers are greedy",
    "response_format": '{"type": "text"} or left out',
}


def invalid(error: ValidationError) -> ApiError:
    """The first thing that is wrong with a request's JSON, without what the client sent."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])[:200]
    if first["type"] == "extra_forbidden":
        return refused(f"{where} is not supported", where, "unsupported_parameter")
    message = f"{where}: {first['msg']}" if where else first["msg"]
    return refused(message[:500], where or None)
