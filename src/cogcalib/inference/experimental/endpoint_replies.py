"""Replies of servers to /v1/completions, read into one form.

Three dialects, recognised by the reply itself:

- vLLM: OpenAI's parallel lists ``tokens``, ``token_logprobs`` and ``top_logprobs``; asked with
  ``return_tokens_as_token_ids`` every token reads ``token_id:N``. An echoed prompt stands in front.
- SGLang: the same lists with the tokens' texts, and ``token_ids`` of what was generated. Two tokens
  of one text share an entry, so that a text counts only where one token of the vocabulary has it.
- llama.cpp: a list ``content`` of objects with ``id``, ``logprob`` and ``top_logprobs``; no echo.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from cogcalib.inference.experimental.endpoint_client import EndpointError

FLOOR = -9999.0
"""What servers write for a probability of zero, or of what underflows; vLLM this very number."""

_ID = "token_id:"


class ReplyError(RuntimeError):
    """A reply from which nothing exact can be read; the message says what is missing."""


class NoEchoError(ReplyError):
    """The server gives no log-probabilities of a prompt."""


class WithheldError(ReplyError):
    """The server gives no log-probabilities of a token that ends within a character: llama.cpp."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is kept of a reply.

    Attributes:
        tokens: Ids of the tokens generated; empty if the server names none.
        logprobs: Their log-probabilities, nats; of an echo those of the prompt's last tokens.
        top: Token -> log-probability at the first generated position, of those that the server
            listed there and of the one it generated.
        unnamed: Log-probabilities of listed tokens whose name may mean several.
        by_text: Whether the listed tokens were named by texts, of which two may share one.
        listed: How many tokens were listed there.
        finish: Why generation ended, as the server says.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    top: Mapping[int, float]
    unnamed: tuple[float, ...]
    by_text: bool
    listed: int
    finish: str

    def best(self, *, without: int | None = None) -> float:
        """The largest log-probability at the first position, or of the other tokens there."""
        named = [value for token, value in self.top.items() if token != without]
        return max((*named, *self.unnamed))

    def to_json(self) -> dict[str, Any]:
        """Fields as JSON has them: the keys of an object cannot be numbers."""
        return {**asdict(self), "top": list(self.top.items())}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Answer:
        """Read back `to_json`."""
        top = {int(token): float(logprob) for token, logprob in fields["top"]}
        lists = {name: tuple(fields[name]) for name in ("tokens", "logprobs", "unnamed")}
        return cls(**{**fields, **lists, "top": top})


class Spelling:
    """The text of every token, for servers that name tokens by it.

    Args:
        tokenizer: Of the model that the server runs.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    @cached_property
    def _ids(self) -> dict[str, int]:
        texts = self._tokenizer.batch_decode([[id] for id in range(len(self._tokenizer))])
        count = Counter(texts)
        return {text: id for id, text in enumerate(texts) if count[text] == 1}

    def token(self, name: str) -> int | None:
        """The one token that a server means by `name`; None if it may mean several."""
        if name.startswith(_ID) and name.removeprefix(_ID).isdecimal():
            return int(name.removeprefix(_ID))
        return self._ids.get(name)

    @cached_property
    def plain(self) -> int:
        """A token that is whole characters: no server withholds it."""
        return next(id for text, id in self._ids.items() if text.isascii() and text.isprintable())


def read_answer(reply: Any, prompt: Sequence[int], spelling: Spelling, *, tail: int) -> Answer:
    """Read a reply to one prompt of token ids.

    Args:
        reply: The JSON of the reply.
        prompt: What was sent.
        spelling: To tell tokens by their texts.
        tail: How many of the prompt's last tokens an echo is asked for; 0 without an echo.

    Raises:
        NoEchoError: If an echo was asked for and the prompt does not stand in the reply.
        WithheldError: If log-probabilities of generated tokens are missing.
        ReplyError: If the reply has another form, or numbers that do not fit what was sent.
    """
    try:
        choice = reply["choices"][0]
        usage = reply.get("usage") or {}
        withheld = choice["logprobs"] is None and not tail and usage.get("completion_tokens")
        rows = [] if withheld else _rows(choice["logprobs"], spelling)
        given = [int(token) for token in choice.get("token_ids") or ()]
        finish = str(choice.get("finish_reason"))
        counted = {name: usage.get(name) for name in ("prompt_tokens", "completion_tokens")}
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ReplyError(f"the reply has no readable log-probabilities: {error!r}") from error
    if counted["prompt_tokens"] not in (None, len(prompt)):
        raise ReplyError(
            f"{len(prompt)} tokens were sent and the server counts {counted['prompt_tokens']}: it "
            "does not take the prompt as it is"
        )
    if tail:
        return _echoed(rows, prompt, counted["completion_tokens"], tail, finish)
    if counted["completion_tokens"] not in (None, len(rows)):
        raise WithheldError(
            f"the server generated {counted['completion_tokens']} tokens and gives "
            f"log-probabilities of {len(rows)}"
        )
    return _generated(rows, given, finish)


@dataclass(frozen=True, slots=True)
class _Position:
    """One position: the token there, its log-probability, and those listed beside it."""

    token: int | None
    logprob: float | None
    listed: int
    top: dict[int, float]
    unnamed: tuple[float, ...] = ()
    by_text: bool = False


def _rows(logprobs: Any, spelling: Spelling) -> list[_Position]:
    if "content" in logprobs:
        return [
            _Position(
                int(row["id"]),
                _checked(row["logprob"]),
                len(row["top_logprobs"]),
                {int(other["id"]): _checked(other["logprob"]) for other in row["top_logprobs"]},
            )
            for row in logprobs["content"]
        ]
    names, values = logprobs["tokens"], logprobs["token_logprobs"]
    tops = logprobs.get("top_logprobs") or []
    if len(tops) != len(names):
        tops = [None] * len(names)
    rows = []
    for name, value, top in zip(names, values, tops, strict=True):
        told = [(spelling.token(key), _checked(each)) for key, each in (top or {}).items()]
        rows.append(
            _Position(
                spelling.token(name),
                None if value is None else _checked(value),
                len(told),
                {token: each for token, each in told if token is not None},
                tuple(each for token, each in told if token is None),
                any(not key.startswith(_ID) for key in top or {}),
            )
        )
    return rows


def _checked(logprob: Any) -> float:
    value = float(logprob)
    if not value <= 1e-3:
        raise ValueError(f"log-probabilities must be 0 or less, got {logprob!r}")
    return min(0.0, max(FLOOR, value))


def _echoed(
    rows: list[_Position], prompt: Sequence[int], generated: int | None, tail: int, finish: str
) -> Answer:
    # One token is generated: not all servers generate none.
    echoed = rows[: len(rows) - (1 if generated is None else generated)]
    if not echoed:
        raise NoEchoError("the server does not echo the prompt")
    named = [row.token for row in echoed]
    same = all(told in (None, sent) for told, sent in zip(named, prompt, strict=False))
    if len(echoed) != len(prompt) or not same:
        raise ReplyError(
            f"{len(prompt)} tokens were sent and {len(echoed)} come back, or others: the server "
            "does not take the prompt as it is"
        )
    values = [row.logprob for row in echoed[-tail:]]
    known = tuple(value for value in values if value is not None)
    if len(known) < tail:
        raise NoEchoError("the server gives no log-probabilities of the prompt")
    return Answer((), known, {}, (), False, 0, finish)


def _generated(rows: list[_Position], given: list[int], finish: str) -> Answer:
    if not rows or any(row.logprob is None for row in rows):
        raise ReplyError("the reply has no log-probabilities of what was generated")
    tokens = given or [row.token for row in rows if row.token is not None]
    first, logprobs = rows[0], [row.logprob or 0.0 for row in rows]
    top, unnamed = dict(first.top), first.unnamed
    if len(tokens) == len(rows):
        top[tokens[0]] = logprobs[0]
    else:
        tokens, unnamed = [], (*unnamed, logprobs[0])
    shown = (top, unnamed, first.by_text, first.listed)
    return Answer(tuple(tokens), tuple(logprobs), *shown, finish)


def named_tokens(answer: Answer) -> tuple[int, ...]:
    """The tokens that were generated, which must be known by their ids.

    Raises:
        EndpointError: If they are not.
    """
    if not answer.tokens:
        raise EndpointError(
            "the server names the tokens it generates by texts that several tokens share; "
            "open-ended answers need token ids (SGLang: a version that knows return_token_ids)"
        )
    return answer.tokens


def possible(logprob: float) -> float:
    """A log-probability that is one.

    Raises:
        EndpointError: If the server gives a probability of zero, its float32 having run out.
    """
    if logprob <= FLOOR:
        raise EndpointError(
            "the server gives a token that is needed a probability of 0: its logarithm is lost"
        )
    return logprob
