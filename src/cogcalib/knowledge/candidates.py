"""What counts as the right answer, as token sequences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from cogcalib.modeling.continuations import continuations
from cogcalib.modeling.few_shot import after_shots, end_tokens
from cogcalib.modeling.prompts import completion, in_chat
from cogcalib.modeling.shots import Prompt
from cogcalib.records import Example

Tokens = list[int]


@dataclass(frozen=True, slots=True)
class Asked:
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
    examples: Sequence[Example], prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase
) -> tuple[int, ...]:
    """The tokens that end an answer: a line break is one where shots have shown that it is."""
    text = not any(in_chat(example) for example in examples)
    return end_tokens(tokenizer, newline=text and any(prompt.shots for prompt in prompts))


def ask(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, ends: Sequence[int]
) -> list[Asked]:
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
                f"example {example.id!r}: the answer {example.answer!r} must have tokens after the "
                f"prompt, none of which ends an answer; the tokenizer finds {found[0]}"
            )
        distinct = dict.fromkeys(tuple(ids) for ids in found if ids)
        answers = tuple(ids for ids in distinct if set(ends).isdisjoint(ids))
        asked.append(Asked(example, alone, answers))
    return asked


def by_shots(
    asked: Sequence[Asked], prompt: Prompt, tokenizer: PreTrainedTokenizerBase
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


def check_room(asked: Asked, tokens: int, limit: int | None) -> None:
    """Raise if prompt and answer take more tokens than the model has positions.

    Raises:
        ValueError: Naming the example and both numbers.
    """
    if limit is not None and tokens > limit:
        raise ValueError(
            f"example {asked.example.id!r}: prompt and answer take {tokens} tokens, the model has "
            f"{limit} positions; use fewer shots"
        )
