"""Exact log-probabilities out of a server that lists probable tokens and may echo a prompt.

Prompts go out as token ids, so that the model sees the very tokens it would see locally: whether
there is a BOS token is then the tokenizer's decision here and nobody's there.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from cogcalib.inference.backend import FirstToken, Generation, Sampling, Tokens
from cogcalib.inference.experimental.endpoint_client import (
    Client,
    EndpointError,
    FailingError,
    RefusedError,
)
from cogcalib.inference.experimental.endpoint_journal import Journal
from cogcalib.inference.experimental.endpoint_remedies import REMEDY, with_remedy
from cogcalib.inference.experimental.endpoint_replies import (
    Answer,
    NoEchoError,
    ReplyError,
    Spelling,
    WithheldError,
    named_tokens,
    possible,
    read_answer,
)
from cogcalib.inference.experimental.listed import SPARE, Following
from cogcalib.inference.generation import answer_length
from cogcalib.inference.truncation import from_most_probable

logger = logging.getLogger(__name__)

GROWTH = 16
"""How many times as many tokens are asked for where one wanted is not among those listed."""

PLAIN = {
    "temperature": 0,
    "top_p": 1,
    "min_p": 0,
    "typical_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "repetition_penalty": 1,
    "repeat_penalty": 1,
}
"""Nothing that the server or the model's generation config sets may bend an answer."""


class EndpointReader:
    """Reads log-probabilities through an endpoint; to be used by several threads at once.

    Args:
        client: The connection.
        tokenizer: Of the model that the endpoint serves.

    Attributes:
        journal: Where finished requests are kept and looked up, None to keep none.
    """

    def __init__(self, client: Client, tokenizer: PreTrainedTokenizerBase) -> None:
        self._client = client
        self.journal: Journal | None = None
        self._spelling, self._size = Spelling(tokenizer), len(tokenizer)
        self._echoes: bool | None = None
        self._probing = threading.Lock()
        self._counted = False
        self._counting = threading.Lock()

    def first_token(
        self, prompt: Sequence[int], needed: Sequence[int], others: Sequence[int] = ()
    ) -> FirstToken:
        """The token that may follow a prompt; the scores are log-probabilities.

        A token of `needed` that the server does not list is read off an echo, or where there is
        none off a longer list; one of `others` is then missing.

        Raises:
            RefusedError: If the server can give the log-probability in neither way.
        """
        answer = self._ask(prompt)
        found = {token: answer.top[token] for token in (*needed, *others) if token in answer.top}
        for token in needed:
            if token not in found:
                (found[token],) = self.logprobs(prompt, [token])
        return FirstToken(answer.best(), {token: possible(found[token]) for token in found})

    def own_and_best_other(
        self, prompt: Sequence[int], tokens: Sequence[int]
    ) -> list[tuple[float, float]]:
        """Log-probability of each token behind a prompt, and of the best other in its place."""
        return [
            self._own_and_best_other([*prompt, *tokens[:at]], token)
            for at, token in enumerate(tokens)
        ]

    def _own_and_best_other(self, prompt: Sequence[int], token: int) -> tuple[float, float]:
        # Of two listed tokens one is another.
        answer = self._ask(prompt, listed=max(2, self._client.endpoint.top_logprobs))
        own = answer.top.get(token)
        if own is None:
            (own,) = self.logprobs(prompt, [token])
        if answer.listed < 2:
            raise RefusedError(f"the server lists {answer.listed} tokens, 2 are needed. {REMEDY}")
        return possible(own), answer.best(without=token)

    def following(self, text: Sequence[int], sampling: Sampling) -> Following:
        """The tokens that may follow a text, at a temperature, among the k most probable.

        Raises:
            RefusedError: If the server lists too few tokens, or names several by one text.
        """
        asked = min(sampling.top_k + SPARE, self._size)
        while True:
            answer = self._ask(text, listed=asked)
            if answer.by_text:
                raise RefusedError(
                    "the server names tokens by texts that several share; the distribution that "
                    "answers are sampled from needs token ids (vLLM and llama.cpp give them)"
                )
            whole = len(answer.top) >= self._size
            if whole or answer.listed > sampling.top_k:
                q = from_most_probable(
                    answer.top, sampling.temperature, sampling.top_k, whole=whole
                )
                if q is not None:
                    return Following(max(answer.top, key=answer.top.__getitem__), q)
            if answer.listed < asked or asked >= self._size:
                raise RefusedError(
                    f"the server lists {answer.listed} tokens, which is too few to see where the "
                    f"{sampling.top_k} most probable ones end; take a smaller top_k, or more "
                    "log-probabilities from the server (vLLM: --max-logprobs)"
                )
            asked = min(asked * GROWTH, self._size)

    def logprobs(self, prompt: Sequence[int], tokens: Sequence[int]) -> list[float]:
        """Log-probability of each of `tokens`, which follow `prompt`, nats.

        One request with an echo; without one, a request for every token.

        Raises:
            RefusedError: If the server has no echo and does not list a token.
        """
        echoed = self._echo([*prompt, *tokens], len(tokens))
        if echoed is not None:
            return [possible(value) for value in echoed]
        starts = [[*prompt, *tokens[:end]] for end in range(len(tokens))]
        return [
            possible(self._listed(start, token))
            for start, token in zip(starts, tokens, strict=True)
        ]

    def generate(self, prompt: Sequence[int], most: int, ends: Collection[int]) -> Generation:
        """The greedy continuation up to one of `ends`, at most `most` tokens.

        A server that ends at another token, or keeps the end token to itself, is asked to go on
        from there; one that withholds a token is asked for the next one alone.

        Raises:
            EndpointError: If the server does not say which tokens it generated.
        """
        tokens: list[int] = []
        logprobs: list[float] = []
        while len(tokens) < most and not set(ends).intersection(tokens):
            so_far = [*prompt, *tokens]
            try:
                answer = self._ask(so_far, max_tokens=most - len(tokens), listed=1)
            except WithheldError:
                answer = self._ask(so_far, listed=1)
            tokens += named_tokens(answer)
            logprobs += answer.logprobs
        length = answer_length(tokens, ends)
        return Generation(tokens[:length], logprobs[:length])

    def draw(
        self, prompt: Sequence[int], seed: int, ends: Sequence[int], sampling: Sampling
    ) -> Tokens:
        """A sampled continuation up to one of `ends`; what follows the end is void.

        Args:
            prompt: Token ids.
            seed: Sent to the server, at least 0 and below 2**31.
            ends: Tokens that end an answer.
            sampling: Temperature, top-k, longest answer.

        Raises:
            EndpointError: If the server does not say which tokens it generated.
        """
        tokens: list[int] = []
        while len(tokens) < sampling.most and not set(ends).intersection(tokens):
            drawn = {
                "temperature": sampling.temperature,
                "top_k": sampling.top_k or -1,
                "seed": (seed + len(tokens)) % 2**31,
                "stop_token_ids": list(ends),
            }
            most = sampling.most - len(tokens)
            answer = self._ask([*prompt, *tokens], max_tokens=most, listed=1, drawn=drawn)
            # A server may keep the end token to itself: to draw again there would be wrong.
            ended = [ends[0]] if answer.finish == "stop" else []
            tokens += [*named_tokens(answer), *ended]
        return tokens

    def _listed(self, prompt: Sequence[int], token: int) -> float:
        """Log-probability of a token read off a list of the most probable, however long.

        The list grows until it holds the token or the server gives no longer one.
        """
        asked = min(self._client.endpoint.top_logprobs, self._size)
        while True:
            answer = self._ask(prompt, listed=asked)
            if token in answer.top:
                return answer.top[token]
            if asked >= self._size or answer.listed < asked:
                raise RefusedError(
                    f"the server lists {answer.listed} tokens, and one that is needed is not among "
                    f"them; it has no echo to read it off either. {REMEDY}"
                )
            asked = min(asked * GROWTH, self._size)

    def _echo(self, ids: Sequence[int], tail: int) -> tuple[float, ...] | None:
        """Log-probabilities of the last `tail` of `ids`; None if the server has no echo."""
        if self._echoes is None:
            with self._probing:  # one thread finds out, the others wait for what it finds
                if self._echoes is None:
                    try:
                        found = self._ask(ids, tail=tail, listed=1)
                    # vllm-metal fails at an echo with HTTP 500 and serves all else.
                    except (NoEchoError, RefusedError, FailingError):
                        self._echoes = False
                    else:
                        self._echoes = True
                        return found.logprobs
        return self._ask(ids, tail=tail, listed=1).logprobs if self._echoes else None

    def _check_taken(self, ids: Sequence[int], reply: Any) -> None:
        """Find out once, by an echo, whether a server that counts no tokens changes the prompt.

        One that puts a BOS token in front shows it in the echo. Without an echo either, nothing
        tells, and that is said.

        Raises:
            EndpointError: If what comes back is not what was sent.
        """
        usage = reply.get("usage") if isinstance(reply, Mapping) else None
        counts = isinstance(usage, Mapping) and usage.get("prompt_tokens") is not None
        # The first token has no log-probability to echo.
        if self._counted or counts or len(ids) < 2:
            return
        with self._counting:
            if not self._counted:
                self._counted = True
                if self._echo(ids, 1) is None:
                    logger.warning(
                        "the server neither counts the tokens of a prompt nor echoes it: whether "
                        "it puts a BOS token in front of the tokens it is sent cannot be known "
                        "here, and log-probabilities would differ if it does"
                    )

    def _ask(
        self,
        ids: Sequence[int],
        *,
        max_tokens: int = 1,
        tail: int = 0,
        listed: int | None = None,
        drawn: Mapping[str, Any] | None = None,
    ) -> Answer:
        """One request, unless it was answered before."""
        body: dict[str, Any] = {
            "model": self._client.endpoint.model,
            "prompt": list(ids),
            "max_tokens": max_tokens,
            "logprobs": min(listed or self._client.endpoint.top_logprobs, self._size),
            "return_tokens_as_token_ids": True,
            "return_token_ids": True,
            **PLAIN,
            **(drawn or {}),
            **({"echo": True} if tail else {}),
        }
        key = Journal.key([body, tail])
        known = self.journal.get(key) if self.journal is not None else None
        if known is not None:
            return known
        try:
            reply = self._client.post("/completions", body)
        except RefusedError as error:
            own = self._client.endpoint.top_logprobs
            raise with_remedy(error, body["logprobs"], own) from error
        if not tail:
            self._check_taken(ids, reply)
        try:
            answer = read_answer(reply, ids, self._spelling, tail=tail)
        except NoEchoError:
            raise
        except WithheldError as error:
            if max_tokens > 1 and drawn is None:
                raise
            answer = self._ask_beside(body, ids, error)
        except ReplyError as error:
            raise EndpointError(str(error)) from error
        if not tail and answer.listed > body["logprobs"]:
            # vLLM puts the chosen token beside the list; that does not make the list longer.
            answer = replace(answer, listed=body["logprobs"])
        if self.journal is not None:
            self.journal.add(key, answer)
        return answer

    def _ask_beside(self, body: Mapping[str, Any], ids: Sequence[int], error: ReplyError) -> Answer:
        """The list at the next position, where the token that the server generates is withheld.

        It lists the model's own log-probabilities, so that another token may be generated.

        Raises:
            EndpointError: If a sampled token is withheld, or the list as well.
        """
        if body["temperature"] != 0 or body["max_tokens"] > 1:
            raise EndpointError(str(error)) from error
        forced = {**body, "logit_bias": {str(self._spelling.plain): 1000}}
        try:
            answer = read_answer(
                self._client.post("/completions", forced), ids, self._spelling, tail=0
            )
        except ReplyError as again:
            raise EndpointError(str(again)) from again
        best = max(answer.top, key=answer.top.__getitem__)
        return replace(answer, tokens=(best,), logprobs=(answer.top[best],))
