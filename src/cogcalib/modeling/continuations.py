"""Tokens of a prompt and of what may follow it, the boundary between them kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cogcalib.modeling.conversations import conversation_texts, read_conversation, turn_end
from cogcalib.modeling.prompts import (
    Worded,
    chat_prompt,
    completion,
    in_chat,
    is_conversation,
    render_prompt,
    render_shots,
)
from cogcalib.records import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


LEAST = 4
"""Characters that the last line of a prompt must have to stand for the prompt."""

Text = tuple[str, bool]
"""What is tokenised, and whether it is bare: a chat, to which no special tokens are added."""


def continuations(
    examples: Sequence[Example],
    completions: Sequence[Sequence[str]],
    tokenizer: PreTrainedTokenizerBase,
    shots: Sequence[Example] = (),
) -> list[tuple[list[int], list[list[int] | None]]]:
    """`text_continuations` of worded questions; `shots` stand, answered, before every one.

    Of a conversation the completions are contents of the assistant's message.

    Raises:
        ValueError: If shots are to stand before a conversation, or as `conversation_texts`.
    """
    if not any(map(is_conversation, examples)):
        return text_continuations(prompt_texts(examples, tokenizer, shots), completions, tokenizer)
    if shots:
        raise ValueError("rows of messages stand as they are written, without shots before them")
    asked = [_talk(*pair, tokenizer) for pair in zip(examples, completions, strict=True)]
    return text_continuations([text for text, _ in asked], [texts for _, texts in asked], tokenizer)


def closed_turns(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase
) -> dict[int, list[int]]:
    """The answers to conversations with the end of the assistant's turn, as TRL learns them.

    Returns:
        Index -> token ids, for those examples that are conversations.

    Raises:
        ValueError: As `conversation_texts`, or if the tokenizer merges an answer into the prompt.
    """
    found = {}
    for index, example in enumerate(examples):
        if not is_conversation(example):
            continue
        messages, given = read_conversation(example.prompt)
        prompt, (answer,) = conversation_texts(messages, [example.answer], tokenizer, given)
        closed = answer + turn_end(messages, tokenizer, given)
        ((_, (ids,)),) = text_continuations([(prompt, True)], [[closed]], tokenizer)
        if not ids:
            raise ValueError(
                f"example {example.id!r}: the tokenizer does not keep the answer apart from the "
                "prompt"
            )
        # `_tokenize` leaves every text open.
        ends = closed.endswith(str(tokenizer.eos_token)) and ids[-1] != tokenizer.eos_token_id
        found[index] = [*ids, tokenizer.eos_token_id] if ends else ids
    return found


def _talk(
    example: Example, completions: Sequence[str], tokenizer: PreTrainedTokenizerBase
) -> tuple[Text, Sequence[str]]:
    """The text of an example, and what may follow it."""
    if not is_conversation(example):
        return prompt_texts([example], tokenizer)[0], completions
    # With its options at hand, as in training: a template may put more before an answer.
    answers = completions or [option.letter for option in example.options or ()]
    try:
        messages, given = read_conversation(example.prompt)
        prompt, texts = conversation_texts(messages, answers, tokenizer, given)
    except ValueError as error:
        raise ValueError(f"example {example.id!r}: {error}") from error
    return (prompt, True), texts[: len(completions)]


def prompt_texts(
    examples: Sequence[Worded], tokenizer: PreTrainedTokenizerBase, shots: Sequence[Example] = ()
) -> list[Text]:
    """Each question in the words of its preset, behind the answered `shots`."""
    shown = "" if any(in_chat(example) for example in examples) else render_shots(shots)
    return [
        (chat_prompt(example, tokenizer, shots), True)
        if in_chat(example)
        else (shown + render_prompt(example), False)
        for example in examples
    ]


def text_continuations(
    prompts: Sequence[Text],
    completions: Sequence[Sequence[str]],
    tokenizer: PreTrainedTokenizerBase,
) -> list[tuple[list[int], list[list[int] | None]]]:
    """Tokens of each prompt and of each completion after it, None where there is no such split.

    Prompt and completion are tokenised together; where the tokenizer would merge across their
    boundary the completion is tokenised apart, provided the text stays the same.

    A prompt, which may hold a long passage, is tokenised once: behind its last line alone a
    completion has the tokens that it has behind the whole. Only where that line ends with another
    token than the prompt does, or merges with the completion, is the whole tokenised again.
    """
    lines = [(last_line(prompt), bare) for prompt, bare in prompts]
    texts = [
        (line + text, bare)
        for (line, bare), row in zip(lines, completions, strict=True)
        for text in row
    ]
    tokens = _tokenize([*prompts, *lines, *texts], tokenizer)
    found = [
        [_behind(tokens[prompt], tokens[line], tokens[line[0] + text, line[1]]) for text in row]
        for prompt, line, row in zip(prompts, lines, completions, strict=True)
    ]
    again = [
        (prompt + text, bare)
        for (prompt, bare), row, split in zip(prompts, completions, found, strict=True)
        for text, ids in zip(row, split, strict=True)
        if ids is None
    ]
    whole = _tokenize(again, tokenizer)
    return [
        (
            list(tokens[prompt]),
            [
                _split(tokens[prompt], whole[prompt[0] + text, prompt[1]], text, tokenizer)
                if ids is None
                else ids
                for text, ids in zip(row, split, strict=True)
            ],
        )
        for prompt, row, split in zip(prompts, completions, found, strict=True)
    ]


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


def last_line(prompt: str) -> str:
    """The end of a prompt, from the beginning of a line on."""
    return prompt[prompt.rfind("\n", 0, max(0, len(prompt) - LEAST)) + 1 :]


def doubled_ends(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """How many start tokens too many open a text, and how many end tokens too many close it.

    A tokenizer adds its start token to a text that has it already, and a trainer the end token
    before a tokenizer that adds its own: no model has seen either twice.
    """
    first, last = 0, len(ids)
    while first + 1 < last and ids[first] == ids[first + 1] == tokenizer.bos_token_id:
        first += 1
    while first + 1 < last and ids[last - 1] == ids[last - 2] == tokenizer.eos_token_id:
        last -= 1
    return first, len(ids) - last


def _behind(prompt_ids: list[int], line: list[int], joint: list[int]) -> list[int] | None:
    """What `joint` has behind `line`; None if it does not show how the prompt goes on."""
    if line and line[-1:] == prompt_ids[-1:] and joint[: len(line)] == line:
        return joint[len(line) :]
    return None


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


def _tokenize(texts: Sequence[Text], tokenizer: PreTrainedTokenizerBase) -> dict[Text, list[int]]:
    """Tokens of each distinct text."""
    tokens: dict[Text, list[int]] = {}
    for bare in (False, True):
        chosen = [text for text in dict.fromkeys(texts) if text[1] == bare]
        if not chosen:
            continue
        rows = tokenizer([text for text, _ in chosen], add_special_tokens=not bare)["input_ids"]
        for text, row in zip(chosen, rows, strict=True):
            # Some tokenizers are set to close every text; a prompt must stay open.
            first, more = doubled_ends(row, tokenizer)
            closed = row and row[-1] == tokenizer.eos_token_id
            tokens[text] = row[first : len(row) - more - bool(closed)]
    return tokens
