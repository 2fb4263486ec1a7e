"""From an example to token ids: the only place that knows loss mask and answer span.

`cogcalib.modeling.prompts` words the prompt; the completion is a space and the answer (in a chat
the answer alone), and the tokenizer's end token closes it. Rows as written have the tokens that TRL
makes of them: of a conversation the end of the assistant's turn closes the answer. Only the
completion and the end token are supervised. What the model sees at inference
(`Encoded.prompt_ids`) is exactly the prefix of what it was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cogcalib.modeling.continuations import closed_turns, continuations
from cogcalib.modeling.prompts import completion, in_chat, render_completion, render_prompt
from cogcalib.records import Example, is_verbatim

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "IGNORED",
    "Encoded",
    "encode",
    "encode_batch",
    "render_completion",
    "render_prompt",
    "surface_ids",
    "to_dataset",
]

IGNORED = -100
"""Label of a token that is not supervised, as in PyTorch's and Hugging Face's cross-entropy."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of one example.

    Attributes:
        input_ids: Prompt, answer and end token, length L.
        labels: `input_ids` with `IGNORED` on the prompt, length L.
        option_ids: Multiple choice: the token of each option letter at the answer position, in
            the order shown; None if open-ended.
    """

    input_ids: list[int]
    labels: list[int]
    option_ids: tuple[int, ...] | None

    @property
    def prompt_ids(self) -> list[int]:
        """The tokens a model is prompted with."""
        return self.input_ids[: self.labels.count(IGNORED)]

    @property
    def answer_ids(self) -> list[int]:
        """The supervised tokens: the answer and the end token."""
        return self.input_ids[self.labels.count(IGNORED) :]


def encode(
    example: Example, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None
) -> Encoded:
    """Encode one example; see `encode_batch`."""
    return encode_batch([example], tokenizer, max_length)[0]


def encode_batch(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None = None,
) -> list[Encoded]:
    """Encode examples for training or scoring.

    The prompt starts with whatever the tokenizer adds by itself (a BOS token or nothing; a chat
    template brings its own). Prompt and completion are tokenised together; where the tokenizer
    would merge across their boundary the completion is tokenised apart, provided the text stays
    the same.

    Args:
        examples: Multiple-choice or open-ended examples.
        tokenizer: A Hugging Face tokenizer with an end token.
        max_length: Most tokens an encoded example may take; None for no limit. Nothing is
            truncated here; `cogcalib.modeling.passages` shortens passages beforehand.

    Raises:
        ValueError: If the tokenizer has no end token, an example is longer than `max_length`, the
            answer has no tokens of its own, an option letter is not one single known token, two
            letters share a token, or the preset has no wording for the question or needs a chat
            template the tokenizer lacks. Names the example.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no end-of-sequence token (eos_token)")
    completions = [
        [completion(example, option.letter) for option in example.options]
        if example.options is not None
        else [render_completion(example)]
        for example in examples
    ]
    encoded = []
    turns = closed_turns(examples, tokenizer)
    for index, (example, (prompt, answers)) in enumerate(
        zip(examples, continuations(examples, completions, tokenizer), strict=True)
    ):
        if example.options is not None:
            option_ids = _option_ids(example, answers, tokenizer.unk_token_id)
            gold = [option.letter for option in example.options].index(example.answer)
            answer = [option_ids[gold], tokenizer.eos_token_id]
        else:
            option_ids = None
            if not answers[0]:
                raise ValueError(
                    f"example {example.id!r}: the tokenizer finds no tokens for the answer "
                    f"{example.answer!r} after the prompt"
                )
            answer = [*answers[0], tokenizer.eos_token_id]
        answer = turns.get(index, answer)
        _check_length(example, len(prompt), len(answer), max_length)
        encoded.append(Encoded(prompt + answer, [IGNORED] * len(prompt) + answer, option_ids))
    return encoded


def surface_ids(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase
) -> list[tuple[tuple[int, ...], ...]]:
    """The tokens that spell each option letter: with a leading space, then without.

    In a chat, where the answer opens the assistant's turn, it is the other way round. A form
    counts if it is one single token after this prompt, known to the tokenizer, that spells no
    other letter. Equal tokens are named once; the first is always the one in `Encoded.option_ids`.

    Args:
        examples: Multiple-choice examples.
        tokenizer: A Hugging Face tokenizer.

    Returns:
        Per example and option, in the order shown, the token ids.

    Raises:
        ValueError: For an open-ended example, or option letters as in `encode_batch`.
    """
    for example in examples:
        if example.options is None:
            raise ValueError(f"example {example.id!r} is open-ended: it has no option letters")
    completions = [_forms(example) for example in examples]
    rows: list[tuple[tuple[int, ...], ...]] = []
    for example, (_, answers) in zip(
        examples, continuations(examples, completions, tokenizer), strict=True
    ):
        half = len(answers) // 2
        usual = _option_ids(example, answers[:half], tokenizer.unk_token_id)
        other = [ids[0] if ids is not None and len(ids) == 1 else None for ids in answers[half:]]
        rows.append(
            tuple(
                (first,)
                if second is None
                or second in (tokenizer.unk_token_id, *usual)
                or other.count(second) > 1
                else (first, second)
                for first, second in zip(usual, other, strict=True)
            )
        )
    return rows


def to_dataset(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    known: Mapping[str, bool] | None = None,
    max_length: int | None = None,
) -> Dataset:
    """Encode examples into the columns that training reads.

    Args:
        examples: Examples to encode, at least one.
        tokenizer: A Hugging Face tokenizer.
        known: Example id -> whether the model knows it, for the ``oracle`` gate.
        max_length: As in `encode_batch`.

    Returns:
        Columns ``input_ids`` and ``labels``; ``option_ids`` if every example is
        multiple choice; ``known`` if given.

    Raises:
        ValueError: If there is no example, `known` misses one, or as in `encode_batch`.
    """
    from datasets import Dataset

    if not examples:
        raise ValueError("examples is empty: a data set needs at least one")
    if known is not None and (missing := [e.id for e in examples if e.id not in known]):
        raise ValueError(f"known misses {len(missing)} examples, the first is {missing[0]!r}")
    encoded = encode_batch(examples, tokenizer, max_length)
    columns: dict[str, list[object]] = {
        "input_ids": [row.input_ids for row in encoded],
        "labels": [row.labels for row in encoded],
    }
    if all(row.option_ids is not None for row in encoded):
        columns["option_ids"] = [list(row.option_ids or ()) for row in encoded]
    if known is not None:
        columns["known"] = [bool(known[example.id]) for example in examples]
    return Dataset.from_dict(columns)


def _forms(example: Example) -> list[str]:
    """Every letter as it usually follows the prompt, then every letter the other way."""
    letters = [option.letter for option in example.options or ()]
    if is_verbatim(example.preset):
        return [*letters, *(each.lstrip() if each[0] == " " else f" {each}" for each in letters)]
    spaced = [f" {letter}" for letter in letters]
    return [*letters, *spaced] if in_chat(example) else [*spaced, *letters]


def _option_ids(
    example: Example, answers: Sequence[list[int] | None], unknown: int | None
) -> tuple[int, ...]:
    letters = [option.letter for option in example.options or ()]
    owner: dict[int, str] = {}
    for letter, ids in zip(letters, answers, strict=True):
        if ids is None or len(ids) != 1 or ids[0] == unknown:
            raise ValueError(
                f"example {example.id!r}: option letter {letter!r} must be one single token of "
                f"the tokenizer's vocabulary after the prompt, got token ids {ids}; labels of "
                "several tokens can be scored (answer='label'), not trained on"
            )
        if ids[0] in owner:
            raise ValueError(
                f"example {example.id!r}: option letters {owner[ids[0]]!r} and {letter!r} share "
                f"the token {ids[0]}"
            )
        owner[ids[0]] = letter
    return tuple(owner)


def _check_length(example: Example, prompt: int, answer: int, max_length: int | None) -> None:
    if max_length is None or prompt + answer <= max_length:
        return
    if answer > max_length:
        raise ValueError(
            f"example {example.id!r}: the answer alone takes {answer} tokens with its end token, "
            f"max_length is {max_length}"
        )
    raise ValueError(
        f"example {example.id!r}: prompt and answer take {prompt + answer} tokens "
        f"({prompt} + {answer}), max_length is {max_length}"
    )
