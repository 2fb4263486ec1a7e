"""Tokens of a prompt and of what may follow it, the boundary between them kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cogcalib.modeling.prompts import (
    chat_prompt,
    completion,
    in_chat,
    render_prompt,
    render_shots,
)
from cogcalib.records import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def continuations(
    examples: Sequence[Example],
    completions: Sequence[Sequence[str]],
    tokenizer: PreTrainedTokenizerBase,
    shots: Sequence[Example] = (),
) -> list[tuple[list[int], list[list[int] | None]]]:
    """Tokens of each prompt and of each completion after it, None where there is no such split.

    Prompt and completion are tokenised together; where the tokenizer would merge across their
    boundary the completion is tokenised apart, provided the text stays the same. `shots` stand,
    answered, before every question.
    """
    shown = "" if any(in_chat(example) for example in examples) else render_shots(shots)
    prompts = [
        chat_prompt(example, tokenizer, shots)
        if in_chat(example)
        else shown + render_prompt(example)
        for example in examples
    ]
    texts = [
        prompt + text
        for prompt, row in zip(prompts, completions, strict=True)
        for text in ("", *row)
    ]
    bare = [
        in_chat(example)
        for example, row in zip(examples, completions, strict=True)
        for _ in ("", *row)
    ]
    tokens = iter(_tokenize(texts, bare, tokenizer))
    split = []
    for row in completions:
        prompt_ids = next(tokens)
        ids = [_split(prompt_ids, next(tokens), text, tokenizer) for text in row]
        split.append((prompt_ids, ids))
    return split


def label_tokens(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase
) -> list[list[list[int] | None]]:
    """The tokens of every option letter behind its prompt, however many they are.

    Returns:
        Per multiple-choice example and option, in the order shown, the token ids; None where the
        tokenizer merges the letter into the prompt.
    """
    letters = [
        [completion(example, option.letter) for option in example.options or ()]
        for example in examples
    ]
    return [rows for _, rows in continuations(examples, letters, tokenizer)]


def _split(
    prompt_ids: list[int], joint: list[int], answer: str, tokenizer: PreTrainedTokenizerBase
) -> list[int] | None:
    if joint[: len(prompt_ids)] == prompt_ids:
        return joint[len(prompt_ids) :]
    # The tokenizer merged across the boundary. Generation starts from the prompt's own tokens, so
    # train on those too. SentencePiece adds the leading space itself: try without ours as well.
    text = tokenizer.decode(joint)
    for piece in (answer, answer.removeprefix(" ")):
        apart: list[int] = tokenizer(piece, add_special_tokens=False)["input_ids"]
        if tokenizer.decode(prompt_ids + apart) == text:
            return apart
    return None


def _tokenize(
    texts: Sequence[str], bare: Sequence[bool], tokenizer: PreTrainedTokenizerBase
) -> list[list[int]]:
    """Tokens of each text; to a `bare` one, a chat, the tokenizer adds no special tokens."""
    rows: list[list[int]] = [[] for _ in texts]
    for kind in sorted(set(bare)):
        chosen = [index for index, flag in enumerate(bare) if flag == kind]
        found = tokenizer([texts[i] for i in chosen], add_special_tokens=not kind)["input_ids"]
        for index, ids in zip(chosen, found, strict=True):
            rows[index] = ids
    # Some tokenizers are set to close every text; a prompt must stay open.
    return [row[:-1] if row and row[-1] == tokenizer.eos_token_id else row for row in rows]
