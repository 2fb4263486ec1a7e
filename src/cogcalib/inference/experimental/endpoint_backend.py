"""A model behind an OpenAI-compatible endpoint that returns log-probabilities.

vLLM, SGLang and llama.cpp; docs/scoring.md says what each of them gives.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from cogcalib.inference.backend import (
    AnswerOdds,
    FirstToken,
    Generation,
    Progress,
    Sampling,
    Tokens,
    TokenScores,
    check_plain,
)
from cogcalib.inference.experimental.endpoint_client import Client, Endpoint, RefusedError
from cogcalib.inference.experimental.endpoint_journal import Journal
from cogcalib.inference.experimental.endpoint_reader import EndpointReader
from cogcalib.inference.experimental.listed import beginnings, odds_of

T = TypeVar("T")

TRIED = Sampling(temperature=2.0, top_k=8, most=8)
"""Hot enough for draws to differ, among tokens that are likely enough to be whole characters."""


class EndpointBackend:
    """Answers as `cogcalib.inference.backend.Backend` says, with log-probabilities for scores.

    All methods raise what the client does: `RefusedError`, a ValueError, where the server refuses a
    request or cannot give what is needed, and `EndpointError` where it stops answering or its
    answers cannot be read exactly. Then nothing more is sent, and what is under way is kept.

    Args:
        endpoint: Where and how.
        tokenizer: The served model's tokenizer; prompts are sent as its token ids.
        positions: Most tokens the model takes (`served_length`), None if not known.
        journal: Where every answer is kept at once; what stands in it is not asked again.
    """

    name = "an endpoint"

    def __init__(
        self,
        endpoint: Endpoint,
        tokenizer: PreTrainedTokenizerBase,
        positions: int | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.endpoint, self.tokenizer, self.positions = endpoint, tokenizer, positions
        self._client = Client(endpoint)
        self._reader = EndpointReader(self._client, tokenizer)
        self._reader.journal = journal

    @property
    def ends(self) -> tuple[int, ...]:
        """None known: a server does not tell its model's generation config."""
        return ()

    def keep_in(self, journal: Journal | None) -> None:
        """Keep every answer in a journal from now on, or in none."""
        self._reader.journal = journal

    def first_tokens(
        self,
        prompts: Sequence[Tokens],
        wanted: Sequence[Sequence[int]],
        others: Sequence[Sequence[int]] | None = None,
        *,
        progress: Progress | None = None,
    ) -> list[FirstToken]:
        """As `Backend.first_tokens`: a request each, and more where a needed token is not listed.

        One of `others` that is not listed is missing.
        """
        more = others if others is not None else [()] * len(prompts)
        return self._each(
            self._reader.first_token, list(zip(prompts, wanted, more, strict=True)), progress
        )

    def log_probabilities(
        self,
        prompts: Sequence[Tokens],
        answers: Sequence[Sequence[int]],
        *,
        temperature: float = 1.0,
        progress: Progress | None = None,
    ) -> list[Tensor]:
        """As `Backend.log_probabilities`, at temperature 1: off an echo, or token by token."""
        check_plain(temperature, self)
        found = self._each(
            self._reader.logprobs, list(zip(prompts, answers, strict=True)), progress
        )
        return [torch.tensor(row, dtype=torch.float64) for row in found]

    def token_scores(
        self,
        prompts: Sequence[Tokens],
        answers: Sequence[Sequence[int]],
        *,
        progress: Progress | None = None,
    ) -> list[TokenScores]:
        """As `Backend.token_scores`, without the entropy: a request for every token."""
        items = list(zip(prompts, answers, strict=True))
        rows = []
        for found in self._each(self._reader.own_and_best_other, items, progress):
            own, other = torch.tensor(found, dtype=torch.float64).unbind(1)
            rows.append(TokenScores(own, other, own >= other, None))
        return rows

    def generate(
        self,
        prompts: Sequence[Tokens],
        ends: Collection[int],
        most: int,
        *,
        temperature: float = 1.0,
        progress: Progress | None = None,
    ) -> list[Generation]:
        """As `Backend.generate`, at temperature 1."""
        check_plain(temperature, self)
        items = [(prompt, most, ends) for prompt in prompts]
        return self._each(self._reader.generate, items, progress)

    def check_answers(self, sampling: Sampling) -> None:
        """As `Backend.check_answers`, by one request: the server must list enough tokens, by id."""
        if sampling.top_k == 0:
            raise ValueError(
                "top_k must be at least 1 in exact mode at an endpoint, which lists the most "
                "probable tokens and not the whole vocabulary; mode sampled can sample from all"
            )
        self._each(self._reader.following, [(self._any_text(), sampling)])

    def answer_odds(
        self,
        prompts: Sequence[Tokens],
        answers: Sequence[Sequence[int]],
        ends: Sequence[int],
        sampling: Sampling,
    ) -> list[AnswerOdds]:
        """As `Backend.answer_odds`: a request for each beginning of each answer."""
        texts = beginnings(prompts, answers)
        found = self._each(self._reader.following, [(text, sampling) for text in texts])
        after = dict(zip(texts, found, strict=True))
        pairs = zip(prompts, answers, strict=True)
        return [odds_of(prompt, answer, after, ends) for prompt, answer in pairs]

    def check_sampling(self, sampling: Sampling) -> None:
        """As `Backend.check_sampling`, by trial: the server must draw by seed, and keep to top-k.

        The same seed twice must give the same tokens, some other seed others, and top-k 1 the
        greedy ones.
        """
        low, high = 0.0, TRIED.temperature
        if not low < sampling.temperature <= high:
            raise ValueError(
                f"temperature must be above {low} and at most {high} at an endpoint, "
                f"got {sampling.temperature}"
            )
        text, end = self._any_text(), (int(self.tokenizer.eos_token_id),)
        cut = Sampling(TRIED.temperature, 1, most=TRIED.most)
        draws = [(text, seed, end, TRIED) for seed in (1, 1, 2, 3)]
        first, again, *others = self._each(self._reader.draw, draws)
        (narrow,) = self._each(self._reader.draw, [(text, 1, end, cut)])
        (greedy,) = self._each(self._reader.generate, [(text, TRIED.most, end)])
        if first != again or all(other == first for other in others):
            raise RefusedError(
                "the server does not draw by the seed it is given, so that sampled answers could "
                "not be had again; mode exact needs no draws"
            )
        if narrow[: len(greedy.tokens)] != greedy.tokens:
            raise RefusedError(
                "the server does not keep to the top_k it is given; mode exact computes it here"
            )

    def sample(
        self,
        prompts: Sequence[Tokens],
        seeds: Sequence[int],
        ends: Sequence[int],
        sampling: Sampling,
    ) -> list[list[Tokens]]:
        """As `Backend.sample`: a request for every answer."""
        greedy = self._each(
            self._reader.generate, [(prompt, sampling.most, ends) for prompt in prompts]
        )
        items = [
            (prompt, ((seed >> 97) + number) % 2**31, ends, sampling)
            for prompt, seed in zip(prompts, seeds, strict=True)
            for number in range(sampling.samples)
        ]
        drawn = iter(self._each(self._reader.draw, items))
        return [[first.tokens, *(next(drawn) for _ in range(sampling.samples))] for first in greedy]

    def _any_text(self) -> Tokens:
        """A prompt of one token, to try the server with."""
        begin = self.tokenizer.bos_token_id
        return [int(begin if begin is not None else self.tokenizer.eos_token_id)]

    def _each(
        self,
        work: Callable[..., T],
        items: Sequence[tuple[Any, ...]],
        progress: Progress | None = None,
    ) -> list[T]:
        """`work` on every item, as many at once as the endpoint may be asked; results in order."""
        failed: list[BaseException] = []

        def attempt(item: tuple[Any, ...]) -> T:
            try:
                return work(*item)
            except BaseException as error:
                # What is under way still comes back and is kept; nothing else is begun.
                failed.append(error)
                self._client.stop()
                raise

        pool = ThreadPoolExecutor(self.endpoint.concurrency, "cogcalib-endpoint")
        with self._client, pool:
            futures = [pool.submit(attempt, item) for item in items]
            try:
                for done, future in enumerate(as_completed(futures), start=1):
                    future.result()
                    if progress is not None:
                        progress(done)
            except BaseException as error:
                self._client.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                # The first to fail says why; the others were stopped.
                raise (failed[0] if failed else error) from None
        return [future.result() for future in futures]


def served_length(endpoint: Endpoint) -> int | None:
    """How many tokens the endpoint's model takes, as its list of models says; None if it does not.

    Raises:
        ValueError: If the endpoint has a list of models and this is not on it.
        EndpointError: If it does not answer.
    """
    try:
        with Client(endpoint) as client:
            listed = client.get("/models")["data"]
        models = {str(row["id"]): row for row in listed}
    except (RefusedError, KeyError, TypeError, AttributeError):
        return None
    if endpoint.model not in models:
        raise ValueError(
            f"model must be one that the endpoint serves ({', '.join(models)}), "
            f"got {endpoint.model!r}"
        )
    row = models[endpoint.model]
    # llama.cpp: what one of its slots takes.
    length = row.get("max_model_len") or (row.get("meta") or {}).get("n_ctx")
    return int(length) if length is not None else None
