"""Long passages: shortened so that a question fits, the question itself never."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cogcalib.modeling.continuations import continuations
from cogcalib.modeling.encoding import encode_batch
from cogcalib.records import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def shorten_passages(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[list[Example], int]:
    """Cut the ends of passages until every example fits.

    Words are cut, from the end; the longest beginning that fits is kept (found by bisection).

    Args:
        examples: With or without passages; those without are left alone.
        tokenizer: A Hugging Face tokenizer.
        max_length: Most tokens an encoded example may take.

    Returns:
        The examples, and how many of them were shortened. One that would not fit without any
        passage keeps none, for `encode_batch` to refuse.
    """
    fitting = list(examples)
    with_passage = [index for index, example in enumerate(examples) if example.context]
    encoded = encode_batch([examples[index] for index in with_passage], tokenizer)
    room = {
        index: max_length - len(row.answer_ids)
        for index, row in zip(with_passage, encoded, strict=True)
        if len(row.input_ids) > max_length
    }
    long = list(room)
    ends = {i: [word.end() for word in re.finditer(r"\S+", examples[i].context)] for i in long}
    kept = dict.fromkeys(long, 0)
    too_many = {index: len(ends[index]) for index in long}
    while undecided := [index for index in long if too_many[index] - kept[index] > 1]:
        middle = {index: (kept[index] + too_many[index]) // 2 for index in undecided}
        tried = [_cut(examples[index], ends[index], middle[index]) for index in undecided]
        prompts = continuations(tried, [()] * len(tried), tokenizer)
        for index, (prompt, _) in zip(undecided, prompts, strict=True):
            (kept if len(prompt) <= room[index] else too_many)[index] = middle[index]
    for index in long:
        fitting[index] = _cut(examples[index], ends[index], kept[index])
    return fitting, len(long)


def _cut(example: Example, ends: Sequence[int], words: int) -> Example:
    return replace(example, context=example.context[: ends[words - 1]] if words else "")
