"""Answers judged by engines that list the most probable tokens of a position, and no logits.

At a temperature the top k tokens of a position alone decide the distribution sampled from, so that
such a list is as exact as all logits, as long as tokens that tie with the k-th are on it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cogcalib.inference.backend import AnswerOdds, Tokens

SPARE = 16
"""Tokens asked for beyond the k-th, to see whether others tie with it."""


@dataclass(frozen=True, slots=True)
class Following:
    """The tokens that may follow a text.

    Attributes:
        greedy: The one that greedy decoding gives.
        q: Token -> its probability at the temperature among the top k; what is missing is cut.
    """

    greedy: int
    q: Mapping[int, float]


def beginnings(
    prompts: Sequence[Tokens], answers: Sequence[Sequence[int]]
) -> list[tuple[int, ...]]:
    """Every prompt with every beginning of its answer, none twice."""
    return list(
        dict.fromkeys(
            (*prompt, *answer[:length])
            for prompt, answer in zip(prompts, answers, strict=True)
            for length in range(len(answer) + 1)
        )
    )


def odds_of(
    prompt: Sequence[int],
    answer: Sequence[int],
    after: Mapping[tuple[int, ...], Following],
    ends: Collection[int],
) -> AnswerOdds:
    """The odds of an answer, from what may follow its `beginnings`."""
    *steps, last = (after[(*prompt, *answer[:t])] for t in range(len(answer) + 1))
    pairs = list(zip(steps, answer, strict=True))
    greedy = all(step.greedy == token for step, token in pairs) and last.greedy in ends
    spelt = math.prod(step.q.get(token, 0.0) for step, token in pairs)
    return AnswerOdds(greedy, spelt * math.fsum(last.q.get(end, 0.0) for end in ends))
