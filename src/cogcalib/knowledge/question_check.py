"""The check that every question fits the model behind its prompts, before any is asked."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from cogcalib.knowledge.candidates import (
    TokenizedQuestion,
    answer_ends,
    ask,
    by_shots,
    check_lengths,
)
from cogcalib.knowledge.questions import Questions, partitions
from cogcalib.knowledge.rotations import check_mode
from cogcalib.knowledge.slick_settings import EXACT, SlickSettings
from cogcalib.modeling import shorten_passages
from cogcalib.modeling.continuations import continuations
from cogcalib.modeling.model_spec import ModelSpec
from cogcalib.modeling.shots import Prompt, Prompts, same_question
from cogcalib.records import Example


def check_questions(
    questions: Questions, prompts: Prompts, settings: SlickSettings, shots: int, model: ModelSpec
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
            fitting, _ = fit(examples, model.tokenizer, model.positions, shots, settings)
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
    model: ModelSpec,
) -> None:
    if examples[0].options is not None:
        check_mode(settings)
        rows = continuations(examples, [()] * len(examples), model.tokenizer)
        pairs = zip(examples, rows, strict=True)
        asked = [TokenizedQuestion(example, alone, ()) for example, (alone, _) in pairs]
    else:
        ends = answer_ends(examples, model.tokenizer, model.ends)
        asked = ask(examples, model.tokenizer, ends)
    check_lengths(asked, [each.alone for each in asked], settings, model.positions)
    # The same shots make all prompts longer by as much, so that the longest question stands for
    # all that see them; those that are among the shots themselves see others.
    shown = {same_question(shot) for prompt in prompts for shot in prompt.shots}
    longest = max(asked, key=lambda each: len(each.alone) + max(map(len, each.answers), default=0))
    chosen = [longest, *(each for each in asked if same_question(each.example) in shown)]
    for prompt in prompts:
        for indices, behind in by_shots(chosen, prompt, model.tokenizer):
            check_lengths([chosen[index] for index in indices], behind, settings, model.positions)
