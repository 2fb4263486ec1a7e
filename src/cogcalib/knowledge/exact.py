"""Exact mode: the probability that a sampled answer is correct, without sampling any.

Where the accepted answers are fixed strings, the probability that a sampled answer is one of them
is a product of conditionals that teacher forcing reads off,

    P(correct) = sum_a [ prod_t q(a_t | x, a_<t) ] * sum_{e in E} q(e | x, a)

over the distinct token sequences a of the answer and its aliases, with q the tempered and truncated
distribution (`cogcalib.inference.truncation`) and E the tokens that end an answer. A sequence that
begins another one is not counted twice: one of them ends where the other goes on.

Counted are answers spelt just like that. That the model spells "Paris" with other tokens, or says
"paris" or "the Paris", is left out; docs/probe.md has how much that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cogcalib.inference.backend import Backend, Tokens
from cogcalib.knowledge.candidates import (
    TokenizedQuestion,
    answer_ends,
    ask,
    ask_behind,
    check_lengths,
)
from cogcalib.knowledge.slick_settings import PAPER, SlickSettings
from cogcalib.modeling.shots import Prompt
from cogcalib.records import Example


@dataclass(frozen=True, slots=True)
class Answered:
    """How one question is answered behind one prompt.

    Attributes:
        greedy: Whether the greedy answer is correct.
        sampled: Probability (exact) or share (sampled) of correct answers, a fraction.
        strict: Sampled mode: the share spelt just as an accepted answer. Exact mode: `sampled`.
    """

    greedy: bool
    sampled: float
    strict: float


def answer_exactly(
    backend: Backend,
    examples: Sequence[Example],
    prompts: Sequence[Prompt],
    settings: SlickSettings = PAPER,
) -> list[list[Answered]]:
    """Judge every open-ended question behind every prompt by the odds of its accepted answers.

    Args:
        backend: The model.
        examples: Open-ended questions of one group.
        prompts: The group's prompts.
        settings: Temperature and top-k.

    Returns:
        For each example, in the order given, one entry a prompt.

    Raises:
        ValueError: If an example is multiple choice, has no answer tokens, or is longer than the
            model has positions, or as `Backend.check_answers`.
    """
    ends = answer_ends(examples, backend.tokenizer, backend.ends)

    def answer(chosen: list[TokenizedQuestion], shown: list[Tokens], _: Prompt) -> list[Answered]:
        check_lengths(chosen, shown, settings, backend.positions)
        return odds_of_accepted(backend, chosen, shown, ends, settings)

    asked = ask(examples, backend.tokenizer, ends)
    return ask_behind(prompts, asked, backend.tokenizer, settings, answer)


def odds_of_accepted(
    backend: Backend,
    asked: Sequence[TokenizedQuestion],
    prompts: Sequence[Tokens],
    ends: Sequence[int],
    settings: SlickSettings,
) -> list[Answered]:
    """Judge questions behind the token ids of one prompt each, summed over the accepted answers."""
    pairs = [
        (prompt, answer)
        for each, prompt in zip(asked, prompts, strict=True)
        for answer in each.answers
    ]
    shown, answers = [prompt for prompt, _ in pairs], [answer for _, answer in pairs]
    found = iter(backend.answer_odds(shown, answers, ends, settings.sampling))
    rows = []
    for each in asked:
        odds = [next(found) for _ in each.answers]
        p = min(1.0, sum(one.probability for one in odds))
        rows.append(Answered(any(one.greedy for one in odds), p, p))
    return rows
