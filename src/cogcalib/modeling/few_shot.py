"""Answered questions before a question: a few-shot prompt's tokens, and what ends its answer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from cogcalib.modeling.continuations import continuations
from cogcalib.modeling.prompts import in_chat, render_prompt, render_shots
from cogcalib.records import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tokens = list[int]

_BEGINNING = 8
"""Characters with which a question's wording begins; they decide how it joins what precedes it."""


def after_shots(
    shots: Sequence[Example],
    examples: Sequence[Example],
    alone: Sequence[Tokens],
    tokenizer: PreTrainedTokenizerBase,
) -> list[Tokens]:
    """The prompt of each example behind the same answered shots, as token ids.

    Equal to tokenising the whole text, several times faster: the shots are tokenised once and the
    questions' own tokens appended. That is tried against the whole for one question of every
    beginning a wording has; where it fails, and in a chat, every prompt is tokenised whole.

    Args:
        shots: Shown with their answers, in the questions' own preset; none gives `alone`.
        examples: The questions.
        alone: Token ids of their prompts without shots.
        tokenizer: A Hugging Face tokenizer.
    """
    if not shots:
        return list(alone)
    if not any(in_chat(example) for example in examples):
        prefix = _closed(tokenizer(render_shots(shots))["input_ids"], tokenizer)
        added = len(_closed(tokenizer("")["input_ids"], tokenizer))
        joined = [[*prefix, *row[added:]] for row in alone]
        kinds = {render_prompt(e)[:_BEGINNING]: i for i, e in enumerate(examples)}
        tried = list(kinds.values())
        whole = continuations([examples[i] for i in tried], [()] * len(tried), tokenizer, shots)
        if all(joined[i] == row for i, (row, _) in zip(tried, whole, strict=True)):
            return joined
    return [row for row, _ in continuations(examples, [()] * len(examples), tokenizer, shots)]


def end_tokens(tokenizer: PreTrainedTokenizerBase, *, newline: bool) -> tuple[int, ...]:
    """The tokens that end an answer: the end token, and all that open with a line break if asked.

    In a text of answered questions a line break is how an answer ends, for a model that was never
    tuned to close it with an end token. White space before the break does not count.

    Raises:
        ValueError: If the tokenizer has no end token.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no end-of-sequence token (eos_token)")
    ends = {int(tokenizer.eos_token_id)}
    if newline:
        ends |= _line_breaks(tokenizer, len(tokenizer))
    return tuple(sorted(ends))


@lru_cache(maxsize=4)
def _line_breaks(tokenizer: PreTrainedTokenizerBase, size: int) -> frozenset[int]:
    # Of a large vocabulary this takes longer than a batch of questions.
    texts = tokenizer.batch_decode([[token] for token in range(size)])
    return frozenset(t for t, text in enumerate(texts) if text.lstrip(" \t").startswith("\n"))


def _closed(tokens: Tokens, tokenizer: PreTrainedTokenizerBase) -> Tokens:
    # Some tokenizers are set to close every text; a prompt must stay open.
    return tokens[:-1] if tokens and tokens[-1] == tokenizer.eos_token_id else tokens
