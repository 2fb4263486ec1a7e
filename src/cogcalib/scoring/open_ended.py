"""Open-ended questions: greedy answers, their confidence, and the NLL of the canonical answer."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from transformers import PreTrainedTokenizerBase

from cogcalib.inference.backend import Backend, Generation, check_plain
from cogcalib.modeling.shot_prompts import encode_open
from cogcalib.records import Example, Prediction
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
    of -log p over the canonical answer's tokens and its end token under teacher forcing. One
    temperature serves all three; it does not change the answer. Behind shots the canonical answer's
    NLL is over its own tokens alone.

    Raises:
        ValueError: As `cogcalib.scoring.score`, or if a temperature other than 1 is named and the
            backend shows no logits.
    """
    temperature, most = settings.generation_temperature(), settings.max_new_tokens
    check_plain(temperature, backend)
    limit = backend.positions
    encodings, ends = encode_open(examples, backend.tokenizer, limit, settings.shots)
    prompts = [row.prompt_ids for row in encodings]
    for example, prompt in zip(examples, prompts, strict=True):
        if limit is not None and len(prompt) + most > limit:
            raise ValueError(
                f"example {example.id!r}: prompt and max_new_tokens take {len(prompt) + most} "
                f"tokens ({len(prompt)} + {most}), the model has {limit} positions"
            )
    gold = backend.log_probabilities(
        prompts, [row.answer_ids for row in encodings], temperature=temperature
    )
    generations = backend.generate(
        prompts, ends, most, temperature=temperature, progress=settings.progress
    )
    return [
        judge(example, generation, -row.mean().item(), backend.tokenizer, settings, ends)
        for example, generation, row in zip(examples, generations, gold, strict=True)
    ]


def judge(
    example: Example,
    generation: Generation,
    nll: float,
    tokenizer: PreTrainedTokenizerBase,
    settings: ScoreSettings,
    ends: Collection[int],
) -> Prediction:
    """The prediction that a generated answer makes, see `score_open_ended`."""
    text, confidence = read_generation(generation, tokenizer, ends)
    return Prediction(
        id=example.id,
        task=example.task,
        split=example.split,
        answer=example.answer,
        prediction=text,
        correct=exact_match(text, [example.answer, *example.aliases]),
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
