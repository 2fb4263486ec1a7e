"""The protocol `Backend`: a model that can be asked, whatever engine it runs in, and its answers.

Scoring and probing turn questions into token ids and ask a backend; which engine computes is the
backend's affair. Log-probabilities are in nats. Whole logits only an engine in this process gives:
that is `WholeLogits`, and `whole_logits` refuses the others before any work is done. Other limits
depend on numbers, such as a top-k: `check_answers` and `check_sampling` refuse those, likewise
before any work.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")

Tokens = list[int]

Progress = Callable[[int], None]
"""Called with the number of sequences done so far."""


@dataclass(frozen=True, slots=True)
class FirstToken:
    """The token that may follow a prompt.

    Attributes:
        best: Log-probability of the most probable token.
        scores: Token asked for -> its logit, or log-probability where the engine shows no logits.
            A token that was not needed and that the engine does not list is missing.
        log_total: Log of the sum of exp(score) over the whole vocabulary; 0 for log-probabilities.
    """

    best: float
    scores: Mapping[int, float]
    log_total: float = 0.0

    def log_probability(self, token: int) -> float:
        """Log-probability of a token asked for."""
        return self.scores[token] - self.log_total

    def log_shares(self, tokens: Sequence[int]) -> list[float]:
        """Log of each token's share of the probability that `tokens` have together."""
        import torch

        values = [self.log_probability(token) for token in tokens]
        shares: list[float] = torch.tensor(values, dtype=torch.float64).log_softmax(-1).tolist()
        return shares


@dataclass(frozen=True, slots=True)
class TokenScores:
    """The tokens of an answer under teacher forcing, each array ``[k]``.

    Attributes:
        log_p: Log-probability of each token.
        best_other: Log-probability of the most probable other token in its place.
        greedy: Whether greedy decoding gives the token.
        entropy: Of the next-token distribution, nats; None unless the engine shows `WholeLogits`.
    """

    log_p: Tensor
    best_other: Tensor
    greedy: Tensor
    entropy: Tensor | None


@dataclass(frozen=True, slots=True)
class Generation:
    """A greedy continuation.

    Attributes:
        tokens: The tokens generated, the end token included unless the length limit came first.
        logprobs: The log-probability of each, nats.
    """

    tokens: list[int]
    logprobs: list[float]


@dataclass(frozen=True, slots=True)
class AnswerOdds:
    """One answer, spelt with given tokens and then ended.

    Attributes:
        greedy: Whether greedy decoding gives it.
        probability: That a sampled answer is just this one, a fraction.
    """

    greedy: bool
    probability: float


@dataclass(frozen=True, slots=True)
class Sampling:
    """The distribution that answers are sampled from (`cogcalib.inference.truncation`).

    Attributes:
        temperature: T.
        top_k: Most probable tokens to sample from at each step; 0 samples from all.
        samples: Answers behind a prompt.
        most: Longest answer in tokens, its end token included.
    """

    temperature: float
    top_k: int
    samples: int = 1
    most: int = 1


class Backend(Protocol):
    """A model that can be asked. Where sequences are taken, as many results are given, in order."""

    @property
    def name(self) -> str:
        """The engine, as messages name it."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""

    @property
    def positions(self) -> int | None:
        """Most tokens that a prompt and its answer may take, None if there is no known limit."""

    @property
    def ends(self) -> tuple[int, ...]:
        """Tokens that end the model's generation by its own configuration, as far as known."""

    def first_tokens(
        self,
        prompts: Sequence[Tokens],
        wanted: Sequence[Sequence[int]],
        others: Sequence[Sequence[int]] | None = None,
        *,
        progress: Progress | None = None,
    ) -> list[FirstToken]:
        """The next token's best log-probability, and the scores of some tokens.

        Args:
            prompts: Token ids.
            wanted: For each prompt, tokens whose scores are needed.
            others: Tokens whose scores are welcome, but may be missing where they cost more.
            progress: Told of finished prompts.
        """

    def log_probabilities(
        self,
        prompts: Sequence[Tokens],
        answers: Sequence[Sequence[int]],
        *,
        temperature: float = 1.0,
        progress: Progress | None = None,
    ) -> list[Tensor]:
        """Log-probability of each token of each answer behind its prompt, ``[k]`` in float.

        Args:
            prompts: Token ids.
            answers: For each prompt at least one token.
            temperature: That the logits are divided by; another than 1 needs `WholeLogits`.
            progress: Told of finished answers.
        """

    def token_scores(
        self,
        prompts: Sequence[Tokens],
        answers: Sequence[Sequence[int]],
        *,
        progress: Progress | None = None,
    ) -> list[TokenScores]:
        """`log_probabilities`, beside the other tokens that might stand in the same places."""

    def generate(
        self,
        prompts: Sequence[Tokens],
        ends: Collection[int],
        most: int,
        *,
        temperature: float = 1.0,
        progress: Progress | None = None,
    ) -> list[Generation]:
        """Greedy continuations up to one of `ends`, of at most `most` tokens.

        Args:
            prompts: Token ids.
            ends: Tokens that end an answer.
            most: Longest answer in tokens.
            temperature: Of the log-probabilities; another than 1 needs `WholeLogits`.
            progress: Told of finished prompts.
        """

    def check_answers(self, sampling: Sampling) -> None:
        """Raise a ValueError if `answer_odds` cannot be exact, saying what would work."""

    def answer_odds(
        self,
        prompts: Sequence[Tokens],
        answers: Sequence[Sequence[int]],
        ends: Sequence[int],
        sampling: Sampling,
    ) -> list[AnswerOdds]:
        """How probable each answer, ended by one of `ends`, is among sampled ones; exactly."""

    def check_sampling(self, sampling: Sampling) -> None:
        """Raise a ValueError if `sample` cannot draw like that, saying what would work."""

    def sample(
        self,
        prompts: Sequence[Tokens],
        seeds: Sequence[int],
        ends: Sequence[int],
        sampling: Sampling,
    ) -> list[list[Tokens]]:
        """The tokens of 1 + N answers behind each prompt: the greedy one, then the samples.

        What follows an answer's end is void. The draws follow from a prompt's seed, of 128 bits.
        """


@runtime_checkable
class WholeLogits(Protocol):
    """A backend that hands out logits over the whole vocabulary."""

    def read_logits(
        self,
        sequences: Sequence[Tokens],
        kept: Sequence[int],
        work: Callable[[list[int], Tensor], Sequence[T]],
        *,
        progress: Progress | None = None,
    ) -> list[T]:
        """What `work` makes of the logits after the last tokens of each sequence.

        Args:
            sequences: Token ids.
            kept: For each, after how many of its last tokens the logits are wanted.
            work: Takes indices into `sequences` and the logits at their positions, one sequence
                after the other, float32 or float64 ``[k, V]``; gives a result for each index.
            progress: Told of finished sequences.
        """


def whole_logits(backend: Backend, purpose: str) -> WholeLogits:
    """The backend as one that hands out its logits.

    Raises:
        ValueError: If it does not, naming the purpose, the backend, and what would work.
    """
    if not isinstance(backend, WholeLogits):
        raise ValueError(
            f"{purpose} needs logits, which {backend.name} does not give; ask the model in "
            "transformers, or calibrate the finished predictions"
        )
    return backend


def check_plain(temperature: float, backend: Backend) -> None:
    """Raise a ValueError unless a temperature is 1 or the backend gives `WholeLogits`."""
    if temperature != 1:
        whole_logits(backend, f"a temperature of {temperature}")
