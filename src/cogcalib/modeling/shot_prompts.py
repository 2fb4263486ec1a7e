"""Prompts behind shots: questions as a model is asked them, after answered ones if any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from cogcalib.modeling.encoding import IGNORED, Encoded, encode_batch
from cogcalib.modeling.few_shot import Tokens, end_tokens
from cogcalib.modeling.prompts import in_chat
from cogcalib.modeling.shots import Prompt
from cogcalib.records import Example


def behind_shots(
    shots: Prompt | None,
    examples: Sequence[Example],
    alone: Sequence[Tokens],
    tokenizer: PreTrainedTokenizerBase,
) -> list[Tokens]:
    """Each prompt's token ids behind the shots; `alone`, those without, where there are none.

    Raises:
        ValueError: If shots and questions differ in preset or kind.
    """
    if shots is None or not examples:
        return list(alone)
    kinds = {(e.preset, e.options is None) for e in (*shots.shots, *examples)}
    if len(kinds) > 1:
        raise ValueError("shots must be of the questions' own prompt preset and kind, all of them")
    return shots.encode(examples, alone, tokenizer)


def encode_asked(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    limit: int | None,
    shots: Prompt | None,
) -> list[Encoded]:
    """`encode_batch`, every prompt behind the shots.

    Raises:
        ValueError: As `encode_batch` and `behind_shots`, or if one then takes more than `limit`
            tokens.
    """
    if shots is None:
        return encode_batch(examples, tokenizer, limit)
    rows = encode_batch(examples, tokenizer)
    prompts = behind_shots(shots, examples, [row.prompt_ids for row in rows], tokenizer)
    joined = []
    for example, prompt, row in zip(examples, prompts, rows, strict=True):
        answer = row.answer_ids
        check_room(example, shots, len(prompt) + len(answer), limit)
        labels = [IGNORED] * len(prompt) + answer
        joined.append(Encoded(prompt + answer, labels, row.option_ids))
    return joined


def encode_open(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    limit: int | None,
    shots: Prompt | None,
) -> tuple[list[Encoded], tuple[int, ...]]:
    """Open-ended questions, and the tokens that end an answer to them.

    Outside a chat a line break ends an answer, too, as it does for a model that was never tuned to
    close with an end token, unless an accepted answer holds one itself. Shots end with a line
    break: behind them the accepted answer is judged without the end token, which nothing in such a
    text has led the model to expect.

    Raises:
        ValueError: As `encode_asked`.
    """
    rows = encode_asked(examples, tokenizer, limit, shots)
    text = not any(in_chat(example) for example in examples)
    shown = bool(shots and shots.shots)
    if text and shown:
        rows = [replace(row, input_ids=row.input_ids[:-1], labels=row.labels[:-1]) for row in rows]
    several = any("\n" in each.strip() for e in examples for each in (e.answer, *e.aliases))
    return rows, end_tokens(tokenizer, newline=text and (shown or not several))


def as_texts(shots: Prompt) -> Prompt:
    """The shots without their options, answered with the correct one's text."""
    reserve = None if shots.reserve is None else _as_text(shots.reserve)
    return Prompt(shots.number, tuple(map(_as_text, shots.shots)), reserve)


def check_room(example: Example, shots: Prompt, tokens: int, limit: int | None) -> None:
    """Raise if shots, prompt and answer take more tokens than the model has positions.

    Raises:
        ValueError: Naming the example and both numbers.
    """
    if limit is not None and tokens > limit:
        raise ValueError(
            f"example {example.id!r}: {len(shots.shots)} shots, prompt and answer take {tokens} "
            f"tokens, the model has {limit} positions; use fewer shots"
        )


def _as_text(example: Example) -> Example:
    return replace(example, options=None, answer=example.answer_text)
