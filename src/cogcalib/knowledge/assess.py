"""Knowledge of examples: a model and their prompts in, a category and signals of each out."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.inference.backend import Backend
from cogcalib.inference.transformers_backend import TransformersBackend
from cogcalib.knowledge.detectors import Signals, read_signals_with
from cogcalib.knowledge.exact import Answered, answer_exactly
from cogcalib.knowledge.probe_rows import Knowledge
from cogcalib.knowledge.rotations import answer_choices, turns
from cogcalib.knowledge.sampled import answer_by_sampling
from cogcalib.knowledge.slick_categories import categorize, categorize_choice, hit_probability
from cogcalib.knowledge.slick_settings import EXACT, PAPER, SlickSettings
from cogcalib.modeling.shots import Prompt
from cogcalib.records import Example


def assess(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    prompts: Sequence[Prompt],
    settings: SlickSettings = PAPER,
    *,
    group: str = "",
) -> list[Knowledge]:
    """SliCK category, probabilities and signals of every example.

    What comes of an example does not depend on the others but for rounding, so that a data set may
    be given whole or batch by batch.

    Args:
        model: A Hugging Face causal language model.
        tokenizer: Its tokenizer.
        examples: Questions of one group, all multiple choice or all open-ended.
        prompts: The group's prompts (`cogcalib.knowledge.draw_prompts`).
        settings: Mode, samples, temperature, top-k, batches.
        group: Goes into the rows.

    Returns:
        One row an example, in the order given.

    Raises:
        ValueError: If the two kinds are mixed, there is no prompt, or as `answer_exactly`,
            `answer_by_sampling` and `answer_choices`.
    """
    backend = TransformersBackend(model, tokenizer, batch_size=settings.batch_size)
    return assess_with(backend, examples, prompts, settings, group=group)


def assess_with(
    backend: Backend,
    examples: Sequence[Example],
    prompts: Sequence[Prompt],
    settings: SlickSettings = PAPER,
    *,
    group: str = "",
) -> list[Knowledge]:
    """`assess`, whatever engine the model runs in."""
    if not prompts:
        raise ValueError("prompts must hold at least one, got none")
    if len({example.options is None for example in examples}) > 1:
        raise ValueError("examples must be all multiple choice or all open-ended, got both")
    if not examples:
        return []
    if examples[0].options is not None:
        answer = answer_choices
    else:
        answer = answer_exactly if settings.mode == EXACT else answer_by_sampling
    answered = answer(backend, examples, prompts, settings)
    signals = read_signals_with(backend, examples)
    return [
        _row(example, found, signs, prompts, settings, group)
        for example, found, signs in zip(examples, answered, signals, strict=True)
    ]


def pairs(examples: Sequence[Example], prompts: Sequence[Prompt]) -> int:
    """How many question-prompt pairs `assess` works through: what its progress counts up to."""
    return len(prompts) * sum(map(turns, examples))


def _row(
    example: Example,
    found: Sequence[Answered],
    signals: Signals,
    prompts: Sequence[Prompt],
    settings: SlickSettings,
    group: str,
) -> Knowledge:
    greedy = [each.greedy for each in found]
    sampled = [each.sampled for each in found]
    ids = [prompt.before(example)[0] for prompt in prompts]
    if example.options is not None:
        hit = hit_probability(sampled, settings.samples)
        category = categorize_choice(greedy, sampled, len(example.options))
        ids = [f"{id}/{turn}" for id in ids for turn in range(turns(example))]
    else:
        # Samples that were drawn either hold a correct one or do not.
        exact = settings.mode == EXACT
        hit = hit_probability(sampled, settings.samples) if exact else float(any(sampled))
        category = categorize(greedy, hit)
    return Knowledge(
        example=example,
        group=group or example.task,
        category=category,
        prompt_ids=tuple(ids),
        greedy=tuple(greedy),
        sampled=tuple(sampled),
        strict=tuple(each.strict for each in found),
        p_greedy=sum(greedy) / len(greedy),
        p_sampled=sum(sampled) / len(sampled),
        p_hit=hit,
        signals=signals,
    )
