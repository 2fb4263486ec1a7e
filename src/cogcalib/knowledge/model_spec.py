"""What can be known of a model without loading its weights, and whether questions would fit it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase

from cogcalib.knowledge.candidates import (
    Asked,
    answer_ends,
    ask,
    by_shots,
    check_lengths,
    generation_ends,
)
from cogcalib.knowledge.questions import Questions, partitions
from cogcalib.knowledge.rotations import check_mode
from cogcalib.knowledge.settings import EXACT, SlickSettings
from cogcalib.modeling import load_tokenizer, resolve_model, shorten_passages
from cogcalib.modeling.continuations import continuations
from cogcalib.modeling.shots import Prompt, Prompts, same_question
from cogcalib.records import Example


@dataclass(frozen=True, slots=True)
class Outline:
    """A model without its weights.

    Attributes:
        tokenizer: Its tokenizer.
        ends: Tokens that end its generation, by its own configuration.
        limit: Positions it was built for, None if it names no limit.
        vocabulary: Logits at a position.
    """

    tokenizer: PreTrainedTokenizerBase
    ends: tuple[int, ...]
    limit: int | None
    vocabulary: int


def read_outline(path_or_id: str) -> Outline:
    """Read tokenizer and configuration of a model, as loading it would.

    Raises:
        ValueError: As `cogcalib.modeling.load_tokenizer`.
    """
    tokenizer = load_tokenizer(path_or_id)
    source = resolve_model(path_or_id)
    local = os.path.isdir(source)
    config = AutoConfig.from_pretrained(source, trust_remote_code=False, local_files_only=local)
    try:
        generation = GenerationConfig.from_pretrained(source, local_files_only=local)
    except OSError:  # it has none of its own
        generation = GenerationConfig.from_model_config(config)
    text = config.get_text_config()
    limit: int | None = getattr(text, "max_position_embeddings", None)
    return Outline(tokenizer, generation_ends(generation), limit, text.vocab_size)


def check_questions(
    questions: Questions, prompts: Prompts, settings: SlickSettings, shots: int, model: Outline
) -> None:
    """Check that every question fits behind every prompt before any is asked, by counting tokens.

    Raises:
        ValueError: If the mode does not go with the kind of the questions, or as `ask` and
            `check_lengths`.
    """
    for number in range(partitions(questions)):
        groups: dict[str, list[Example]] = {}
        for example, group in questions.read(number):
            groups.setdefault(group, []).append(example)
        for group, examples in groups.items():
            fitting, _ = fit(examples, model.tokenizer, model.limit, shots, settings)
            _check_group(fitting, prompts[group], settings, model)


def fit(
    examples: list[Example],
    tokenizer: PreTrainedTokenizerBase,
    limit: int | None,
    shots: int,
    settings: SlickSettings,
) -> tuple[list[Example], int]:
    """The examples, zero-shot with their passages cut to fit the model; how many were cut.

    Raises:
        ValueError: As `shorten_passages`.
    """
    if limit is None or shots > 0:
        return examples, 0
    room = settings.max_new_tokens if settings.mode != EXACT else 0
    return shorten_passages(examples, tokenizer, limit - room)


def _check_group(
    examples: Sequence[Example],
    prompts: Sequence[Prompt],
    settings: SlickSettings,
    model: Outline,
) -> None:
    if examples[0].options is not None:
        check_mode(settings)
        rows = continuations(examples, [()] * len(examples), model.tokenizer)
        pairs = zip(examples, rows, strict=True)
        asked = [Asked(example, alone, ()) for example, (alone, _) in pairs]
    else:
        ends = answer_ends(examples, model.tokenizer, model.ends)
        asked = ask(examples, model.tokenizer, ends)
    check_lengths(asked, [each.alone for each in asked], settings, model.limit)
    # The same shots make all prompts longer by as much, so that the longest question stands for
    # all that see them; those that are among the shots themselves see others.
    shown = {same_question(shot) for prompt in prompts for shot in prompt.shots}
    longest = max(asked, key=lambda each: len(each.alone) + max(map(len, each.answers), default=0))
    chosen = [longest, *(each for each in asked if same_question(each.example) in shown)]
    for prompt in prompts:
        for indices, behind in by_shots(chosen, prompt, model.tokenizer):
            check_lengths([chosen[index] for index in indices], behind, settings, model.limit)
