"""Open-ended questions and their accepted answers, as token sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from transformers import PreTrainedTokenizerBase

from cogcalib.inference.backend import Tokens
from cogcalib.knowledge.slick_settings import EXACT, SlickSettings
from cogcalib.modeling.continuations import continuations
from cogcalib.modeling.few_shot import after_shots, end_tokens
from cogcalib.modeling.prompts import completion, in_chat
from cogcalib.modeling.shots import Prompt
from cogcalib.records import Example
from cogcalib.suggest import cut

T = TypeVar("T")

SHOWN = 80
"""Characters of a question that a message shows."""


@dataclass(frozen=True, slots=True)
class TokenizedQuestion:
    """An open-ended question as tokens.

    Attributes:
        example: The question.
        alone: Its prompt without any shots.
        answers: The answer and its aliases as they would follow the prompt: distinct, none holding
            an end token, so that with the end behind each they exclude one another.
    """

    example: Example
    alone: Tokens
    answers: tuple[tuple[int, ...], ...]


def answer_ends(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, others: Sequence[int]
) -> tuple[int, ...]:
    """The tokens that end an answer: the end token, `others`, and outside a chat a line break.

    Args:
        examples: All in a chat or none.
        tokenizer: Theirs.
        others: The model's own, `Backend.ends`.
    """
    ends = end_tokens(tokenizer, newline=ends_at_line_break(examples))
    return tuple(sorted({*ends, *others}))


def ends_at_line_break(examples: Sequence[Example]) -> bool:
    """Whether a line break ends an answer: in a chat it may stand inside one."""
    return not any(in_chat(example) for example in examples)


def ask(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, ends: Sequence[int]
) -> list[TokenizedQuestion]:
    """Every question's prompt and accepted answers.

    An alias that the tokenizer cannot set apart from the prompt, spells like another, or that
    holds an end token is left out.

    Raises:
        ValueError: If an example is multiple choice, or its answer has no tokens of its own or one
            that ends it.
    """
    for example in examples:
        if example.options is not None:
            raise ValueError(f"example {example.id!r} is multiple choice, not open-ended")
    texts = [[completion(e, text) for text in (e.answer, *e.aliases)] for e in examples]
    asked = []
    for example, (alone, found) in zip(
        examples, continuations(examples, texts, tokenizer), strict=True
    ):
        if not found[0] or not set(ends).isdisjoint(found[0]):
            raise ValueError(
                f"{shown(example)}: the answer {example.answer!r} must have tokens after the "
                "prompt, none of which ends an answer (an end token or a line break); the "
                f"tokenizer finds {found[0]}"
            )
        distinct = dict.fromkeys(tuple(ids) for ids in found if ids)
        answers = tuple(ids for ids in distinct if set(ends).isdisjoint(ids))
        asked.append(TokenizedQuestion(example, alone, answers))
    return asked


def by_shots(
    asked: Sequence[TokenizedQuestion], prompt: Prompt, tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[list[int], list[Tokens]]]:
    """Questions that the same shots stand before: nearly all, and those that stood among them.

    Yields:
        Indices into `asked`, and for each of them the prompt's token ids.
    """
    sharing: dict[str, list[int]] = {}
    shots = {}
    for index, each in enumerate(asked):
        id, shots[id] = prompt.before(each.example)
        sharing.setdefault(id, []).append(index)
    for id, indices in sharing.items():
        examples = [asked[i].example for i in indices]
        yield (
            indices,
            after_shots(shots[id], examples, [asked[i].alone for i in indices], tokenizer),
        )


def ask_behind(
    prompts: Sequence[Prompt],
    asked: Sequence[TokenizedQuestion],
    tokenizer: PreTrainedTokenizerBase,
    settings: SlickSettings,
    answer: Callable[[list[TokenizedQuestion], list[Tokens], Prompt], Sequence[T]],
) -> list[list[T]]:
    """The answers to every question behind every prompt, whoever gives them.

    Args:
        prompts: Of the questions' group.
        asked: The questions.
        tokenizer: Theirs.
        settings: Their progress is told after each prompt.
        answer: Takes questions that the same shots stand before, the token ids of what is shown of
            each, and the prompt; gives something for each question.

    Returns:
        For each question, in the order given, one entry a prompt.
    """
    rows: list[list[T]] = [[] for _ in asked]
    for number, prompt in enumerate(prompts):
        for indices, shown in by_shots(asked, prompt, tokenizer):
            found = answer([asked[index] for index in indices], shown, prompt)
            for index, each in zip(indices, found, strict=True):
                rows[index].append(each)
        if settings.progress is not None:
            settings.progress((number + 1) * len(asked))
    return rows


def check_lengths(
    asked: Sequence[TokenizedQuestion],
    prompts: Sequence[Tokens],
    settings: SlickSettings,
    limit: int | None,
) -> None:
    """Raise if an answer is longer than may be generated, or does not fit the model.

    Args:
        asked: Questions; those without `answers` are multiple choice and take no tokens more.
        prompts: Their prompts behind the shots.
        settings: Exact mode reads the answers, sampled mode generates `max_new_tokens`.
        limit: The model's positions, None if it names no limit.

    Raises:
        ValueError: Naming the question and both numbers.
    """
    for each, prompt in zip(asked, prompts, strict=True):
        longest = max(map(len, each.answers), default=0)
        if settings.mode != EXACT:
            # The end token is generated as well.
            if longest + 1 > settings.max_new_tokens:
                raise ValueError(
                    f"max_new_tokens must be at least {longest + 1} for the answers to "
                    f"{shown(each.example)}, got {settings.max_new_tokens}"
                )
            longest = settings.max_new_tokens
        if limit is not None and len(prompt) + longest > limit:
            raise ValueError(
                f"{shown(each.example)}: prompt and answer take {len(prompt) + longest} tokens, "
                f"the model has {limit} positions; use fewer shots"
            )


def shown(example: Example) -> str:
    """A question as messages name it: by its wording, which the user knows, and its id."""
    text = " ".join(example.prompt.split())
    return f"question {cut(text, SHOWN)!r} ({example.id})"
