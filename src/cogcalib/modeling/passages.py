"""Long passages: shortened so that a question fits, the question itself never."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cogcalib.modeling.continuations import continuations
from cogcalib.modeling.prompts import completion, shown_passage
from cogcalib.records import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def shorten_passages(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    by_text: bool = False,
) -> tuple[list[Example], int]:
    """Cut the ends of passages until every example fits, with the longest of its answers.

    Words are cut, from the end; the longest beginning that fits is kept (found by bisection).

    Args:
        examples: With or without passages; those without are left alone.
        tokenizer: A Hugging Face tokenizer.
        max_length: Most tokens that prompt, answer and end token may take.
        by_text: Questions with options are asked without showing them, and an option's text is
            the answer; otherwise its letter is.

    Returns:
        The examples, and how many are asked with a part of their passage alone: cut here, or by
        the preset, which may show no more than so many characters.

    Raises:
        ValueError: If not one word of a passage fits, naming the example.
    """
    fitting = list(examples)
    with_passage = [index for index, example in enumerate(examples) if example.context]
    asked = {i: _as_asked(examples[i], by_text=by_text) for i in with_passage}
    encoded = continuations(
        [question for question, _ in asked.values()],
        [[completion(question, text) for text in texts] for question, texts in asked.values()],
        tokenizer,
    )
    room: dict[int, int] = {}
    for index, (prompt, answers) in zip(with_passage, encoded, strict=True):
        left = max_length - max(len(ids or ()) for ids in answers) - 1  # the end token
        if len(prompt) > left:
            room[index] = left
    long = list(room)
    ends = {i: [word.end() for word in re.finditer(r"\S+", examples[i].context)] for i in long}
    kept = dict.fromkeys(long, 0)
    too_many = {index: len(ends[index]) for index in long}
    while undecided := [index for index in long if too_many[index] - kept[index] > 1]:
        middle = {index: (kept[index] + too_many[index]) // 2 for index in undecided}
        tried = [_cut(asked[index][0], ends[index], middle[index]) for index in undecided]
        prompts = continuations(tried, [()] * len(tried), tokenizer)
        for index, (prompt, _) in zip(undecided, prompts, strict=True):
            (kept if len(prompt) <= room[index] else too_many)[index] = middle[index]
    for index in long:
        if not kept[index]:
            raise ValueError(
                f"example {examples[index].id!r}: max_length is {max_length} tokens, into which "
                "not one word of its passage fits beside the question"
            )
        fitting[index] = _cut(examples[index], ends[index], kept[index])
    by_preset = {i for i in with_passage if shown_passage(examples[i]) != examples[i].context}
    return fitting, len(by_preset | room.keys())


def _as_asked(example: Example, *, by_text: bool) -> tuple[Example, list[str]]:
    """The question as it is put, and what may follow it."""
    if example.options is None:
        return example, [example.answer]
    if not by_text:
        return example, [option.letter for option in example.options]
    texts = [option.text for option in example.options]
    return replace(example, options=None, answer=texts[0]), texts


def _cut(example: Example, ends: Sequence[int], words: int) -> Example:
    return replace(example, context=example.context[: ends[words - 1]])
