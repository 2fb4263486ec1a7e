"""Sampled mode: the share of sampled answers that are correct, and the greedy one, by generating.

The draws belong to the question and the prompt, so that neither the batch nor the other questions
change an answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from cogcalib.inference.backend import Backend, Tokens
from cogcalib.knowledge.candidates import (
    TokenizedQuestion,
    answer_ends,
    ask,
    ask_behind,
    check_lengths,
    ends_at_line_break,
)
from cogcalib.knowledge.exact import Answered
from cogcalib.knowledge.slick_settings import PAPER, SAMPLED, SlickSettings
from cogcalib.modeling.shots import Prompt
from cogcalib.records import Example
from cogcalib.tasks.match import exact_match


def answer_by_sampling(
    backend: Backend,
    examples: Sequence[Example],
    prompts: Sequence[Prompt],
    settings: SlickSettings = PAPER,
) -> list[list[Answered]]:
    """Judge every open-ended question behind every prompt by one greedy and N sampled answers.

    An answer is what stands before the first end token or, outside a chat, line break; it is
    correct if it matches the answer or an alias as `cogcalib.tasks.match.exact_match` has it, and
    strictly correct if its tokens are those of one of them and the end follows.

    Args:
        backend: The model.
        examples: Open-ended questions of one group.
        prompts: The group's prompts.
        settings: Samples, temperature, top-k, longest answer, seed.

    Returns:
        For each example, in the order given, one entry a prompt.

    Raises:
        ValueError: As `cogcalib.knowledge.exact.answer_exactly`, if an answer does not fit
            `max_new_tokens`, or as `Backend.sample`.
    """
    settings = replace(settings, mode=SAMPLED)
    ends, tokenizer = answer_ends(examples, backend.tokenizer, backend.ends), backend.tokenizer

    def answer(
        chosen: list[TokenizedQuestion], shown: list[Tokens], prompt: Prompt
    ) -> list[Answered]:
        check_lengths(chosen, shown, settings, backend.positions)
        seeds = [draw_seed(settings.seed, prompt.number, each) for each in chosen]
        drawn = backend.sample(shown, seeds, ends, settings.sampling)
        pairs = zip(chosen, drawn, strict=True)
        return [judge_answers(each, tokens, ends, tokenizer) for each, tokens in pairs]

    return ask_behind(prompts, ask(examples, tokenizer, ends), tokenizer, settings, answer)


def draw_seed(seed: int, number: int, asked: TokenizedQuestion) -> int:
    """The seed of a question's samples behind a prompt, 128 bits."""
    words = f"{seed}/{number}/{asked.example.content_hash()}"
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:16])


def judge_answers(
    asked: TokenizedQuestion,
    answers: Sequence[Tokens],
    ends: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
) -> Answered:
    """Judge the tokens of the greedy answer and of the samples, what follows an end left aside."""
    accepted = [asked.example.answer, *asked.example.aliases]
    spelt = [_spelt(tokens, set(ends)) for tokens in answers]
    # Sixteen samples are few different answers.
    texts = dict.fromkeys(tokens for tokens, _ in spelt)
    line = ends_at_line_break([asked.example])
    right = {tokens: exact_match(_text(tokens, tokenizer, line), accepted) for tokens in texts}
    matching = [right[tokens] for tokens, _ in spelt]
    strict = [ended and tokens in asked.answers for tokens, ended in spelt]
    samples = len(answers) - 1
    return Answered(matching[0], sum(matching[1:]) / samples, sum(strict[1:]) / samples)


def _spelt(tokens: Tokens, ends: set[int]) -> tuple[tuple[int, ...], bool]:
    """The tokens before the first end, and whether there was one."""
    first = next((place for place, token in enumerate(tokens) if token in ends), None)
    return tuple(tokens[:first]), first is not None


def _text(tokens: tuple[int, ...], tokenizer: PreTrainedTokenizerBase, line: bool) -> str:
    text = str(tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()
    # A token may hold a line break behind other characters: it ends no answer, but the text does.
    return text.split("\n", 1)[0].strip() if line else text
