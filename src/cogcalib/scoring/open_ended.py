"""Open-ended questions: greedy answers, their confidence, and the NLL of the canonical answer."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from cogcalib.inference.backend import Backend, Generation, check_plain
from cogcalib.modeling.shot_prompts import encode_open
from cogcalib.records import Example, Prediction
from cogcalib.scoring.confidence_names import LIKELIHOOD, OPEN_ENDED
from cogcalib.scoring.config import ScoreSettings
from cogcalib.tasks.match import exact_match


def score_open_ended(
    backend: Backend, examples: Sequence[Example], settings: ScoreSettings
) -> list[Prediction]:
    """Predictions of greedy answers.

    The answer is what greedy decoding yields up to the end token or, outside a chat, a line break
    (`cogcalib.modeling.shot_prompts.encode_open`); it is correct if it matches the answer or an
    alias (`exact_match`). With log p over its tokens, the end token included because stopping there
    is part of the answer: ``mean`` = exp(mean log p), ``joint`` = exp(sum log p). `nll` is the mean
    of -log p over the canonical answer's tokens and its end token under teacher forcing. Each
    definition has its own temperature, and so has `nll`; none changes the answer. Behind shots the
    canonical answer's NLL is over its own tokens alone.

    Raises:
        ValueError: As `cogcalib.scoring.score`, or if a temperature other than 1 is named and the
            backend shows no logits.
    """
    scale = settings.temperatures((*OPEN_ENDED, LIKELIHOOD))
    for temperature in scale.values():
        check_plain(temperature, backend)
    asked = generate_answers(backend, examples, settings, scale["mean"])
    prompts, generations = asked.prompts, asked.generations
    gold = backend.log_probabilities(prompts, asked.canonical, temperature=scale[LIKELIHOOD])
    joint = [sum(each.logprobs) for each in generations]
    if scale["joint"] != scale["mean"]:
        said = [each.tokens for each in generations]
        found = backend.log_probabilities(prompts, said, temperature=scale["joint"])
        joint = [row.sum().item() for row in found]
    predictions = []
    for example, generation, row, total in zip(examples, generations, gold, joint, strict=True):
        text, confidence = read_generation(generation, backend.tokenizer, asked.ends)
        confidence["joint"] = min(1.0, math.exp(total))
        predictions.append(_judge(example, text, confidence, -row.mean().item(), settings))
    return predictions


@dataclass(frozen=True, slots=True)
class Generated:
    """Open-ended questions and what a model answers.

    Attributes:
        prompts: Tokens of each question.
        canonical: Tokens of each canonical answer.
        ends: Tokens that end an answer.
        generations: The answers generated.
    """

    prompts: list[list[int]]
    canonical: list[list[int]]
    ends: Collection[int]
    generations: list[Generation]


def generate_answers(
    backend: Backend,
    examples: Sequence[Example],
    settings: ScoreSettings,
    temperature: float = 1.0,
) -> Generated:
    """Greedy answers, their log-probabilities at a temperature, see `score_open_ended`."""
    limit, most = backend.positions, settings.max_new_tokens
    encodings, ends = encode_open(examples, backend.tokenizer, limit, settings.shots)
    prompts = [row.prompt_ids for row in encodings]
    for example, prompt in zip(examples, prompts, strict=True):
        if limit is not None and len(prompt) + most > limit:
            raise ValueError(
                f"example {example.id!r}: prompt and max_new_tokens take {len(prompt) + most} "
                f"tokens ({len(prompt)} + {most}), the model has {limit} positions"
            )
    found = backend.generate(
        prompts, ends, most, temperature=temperature, progress=settings.progress
    )
    return Generated(prompts, [row.answer_ids for row in encodings], ends, found)


def is_correct(text: str, example: Example) -> bool:
    """Whether an open-ended answer matches the canonical one or an alias."""
    return exact_match(text, [example.answer, *example.aliases])


def _judge(
    example: Example, text: str, confidence: dict[str, float], nll: float, settings: ScoreSettings
) -> Prediction:
    """The prediction that a generated answer makes."""
    return Prediction(
        id=example.id,
        task=example.task,
        split=example.split,
        answer=example.answer,
        prediction=text,
        correct=is_correct(text, example),
        nll=nll,
        confidence=confidence,
        option_logprobs=None,
        model=settings.model_name,
        run=settings.run,
    )


def read_generation(
    generation: Generation, tokenizer: PreTrainedTokenizerBase, ends: Collection[int]
) -> tuple[str, dict[str, float]]:
    """The text of a generated answer, and its confidence, see `score_open_ended`."""
    said = [token for token in generation.tokens if token not in ends]
    total = sum(generation.logprobs)
    return str(tokenizer.decode(said, skip_special_tokens=True)).strip(), {
        "mean": min(1.0, math.exp(total / len(generation.logprobs))),
        "joint": min(1.0, math.exp(total)),
    }
