"""Multiple-choice questions as tokens: each prompt tokenised once, the letters looked up.

`surface_ids` tokenises every letter after every prompt, in both surface forms; that takes longer
than a small model's forward pass. A letter's tokens follow from how the prompt ends, so here it is
asked for one question of every kind of ending, and believed for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from cogcalib.modeling.continuations import continuations
from cogcalib.modeling.encoding import encode_batch, surface_ids
from cogcalib.modeling.shot_prompts import behind_shots, check_room
from cogcalib.modeling.shots import Prompt
from cogcalib.records import Example

ENDING = 3
"""Tokens at the end of a prompt that decide how a letter behind it is tokenised."""

Forms = tuple[tuple[int, ...], ...]
"""For each option its tokens: the one behind this prompt first, then other surface forms."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One question as a model is asked it.

    Attributes:
        prompt_ids: Tokens of the prompt.
        forms: For each option, in the order shown, the tokens that spell its letter.
    """

    prompt_ids: list[int]
    forms: Forms


def encode_choices(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None,
    shots: Prompt | None = None,
) -> list[Choice]:
    """The prompt of `encode_batch`, behind `shots`, and the letters of `surface_ids` of each.

    Raises:
        ValueError: As those two and `behind_shots`, or if shots, prompt and answer do not fit.
    """
    found = continuations(examples, [()] * len(examples), tokenizer)
    prompts = [prompt_ids for prompt_ids, _ in found]
    for example, prompt_ids in zip(examples, prompts, strict=True):
        if max_length is not None and len(prompt_ids) + 2 > max_length:
            encode_batch([example], tokenizer, max_length)  # says what is too long
    keys = [
        (example.preset, tuple(option.letter for option in example.options or ()), *ids[-ENDING:])
        for example, ids in zip(examples, prompts, strict=True)
    ]
    first = {key: index for index, key in reversed(list(enumerate(keys)))}
    forms = surface_ids([examples[index] for index in first.values()], tokenizer)
    known = dict(zip(first, forms, strict=True))
    asked = behind_shots(shots, examples, prompts, tokenizer)
    if shots is not None:
        for example, ids in zip(examples, asked, strict=True):
            check_room(example, shots, len(ids) + 2, max_length)
    return [Choice(ids, known[key]) for ids, key in zip(asked, keys, strict=True)]
