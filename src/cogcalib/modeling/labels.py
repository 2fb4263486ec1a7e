"""Audit of the option labels: is each the token that the model really sees after the prompt?

A label's token depends on what stands before it: ``A`` at the start of a text and `` A`` after
``Answer:`` are two tokens of most byte-level vocabularies and one of most SentencePiece ones. Code
that looks labels up by themselves compares probabilities of tokens that never occur
(EleutherAI/lm-evaluation-harness issue 1875).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cogcalib.modeling.continuations import label_tokens
from cogcalib.records import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SPACES = ("\u0120", "\u2581", " ")


@dataclass(frozen=True, slots=True)
class Label:
    """One option label after the prompts it was looked at behind.

    Attributes:
        letter: As shown.
        ids: Token ids behind the first prompt; empty if the tokenizer merges label and prompt so
            that no prompt ends where the label begins.
        tokens: The same as the vocabulary spells them.
        form: ``spaced`` (one token with its leading space), ``bare`` (one token without) or
            ``several`` (no single known token).
        alone: Ids that the tokenizer gives the letter by itself, without special tokens.
        steady: The same ids behind every prompt looked at.
    """

    letter: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    form: str
    alone: tuple[int, ...]
    steady: bool


@dataclass(frozen=True, slots=True)
class LabelAudit:
    """What was found; goes into a run's record.

    Attributes:
        preset: Prompt preset of the questions.
        prompts: Number of questions looked at.
        labels: One for each distinct letter.
        single: Every label is one single known token.
        distinct: No two labels share a token sequence.
        alone: Looking the letters up by themselves would have given the same tokens.
        steady: Every label has the same tokens behind every prompt.
    """

    preset: str
    prompts: int
    labels: tuple[Label, ...]
    single: bool
    distinct: bool
    alone: bool
    steady: bool


def audit_labels(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, prompts: int = 100
) -> LabelAudit | None:
    """Look at the labels behind real prompts, as training and scoring will.

    Args:
        examples: Of one prompt preset; open-ended ones are left out.
        tokenizer: A Hugging Face tokenizer.
        prompts: Most questions to look at for each number of options, evenly spread.

    Returns:
        The audit; None if no question has options.

    Raises:
        ValueError: If the presets differ, or `prompts` is below 1.
    """
    if prompts < 1:
        raise ValueError(f"prompts must be at least 1, got {prompts}")
    if len(presets := {example.preset for example in examples}) > 1:
        raise ValueError(f"examples must share one prompt preset, got {sorted(presets)}")
    chosen = _sample(examples, prompts)
    if not chosen:
        return None
    seen: dict[str, list[tuple[int, ...]]] = {}
    for example, rows in zip(chosen, label_tokens(chosen, tokenizer), strict=True):
        for option, ids in zip(example.options or (), rows, strict=True):
            seen.setdefault(option.letter, []).append(tuple(ids or ()))
    labels = tuple(_label(letter, found, tokenizer) for letter, found in seen.items())
    return LabelAudit(
        preset=chosen[0].preset,
        prompts=len(chosen),
        labels=labels,
        single=all(label.form != "several" for label in labels),
        distinct=len({label.ids for label in labels}) == len(labels),
        alone=all(label.ids == label.alone for label in labels),
        steady=all(label.steady for label in labels),
    )


def _sample(examples: Sequence[Example], prompts: int) -> list[Example]:
    by_letters: dict[tuple[str, ...], list[Example]] = {}
    for example in examples:
        if example.options is not None:
            letters = tuple(option.letter for option in example.options)
            by_letters.setdefault(letters, []).append(example)
    return [
        same[(index * len(same)) // count]
        for same in by_letters.values()
        for count in [min(prompts, len(same))]
        for index in range(count)
    ]


def _label(
    letter: str, found: Sequence[tuple[int, ...]], tokenizer: PreTrainedTokenizerBase
) -> Label:
    ids = found[0]
    tokens = tuple(str(token) for token in tokenizer.convert_ids_to_tokens(list(ids)))
    form = "several"
    if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
        form = "spaced" if tokens[0].startswith(_SPACES) else "bare"
    alone = tuple(tokenizer(letter, add_special_tokens=False)["input_ids"])
    return Label(letter, ids, tokens, form, alone, all(other == ids for other in found))
