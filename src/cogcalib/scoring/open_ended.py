"""Open-ended questions: greedy answers, their confidence, and the NLL of the canonical answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.modeling.encoding import Encoded, encode_batch
from cogcalib.records import Example, Prediction
from cogcalib.scoring.definitions import OPEN_ENDED, checked_temperatures
from cogcalib.scoring.forward import (
    Tokens,
    answer_tokens,
    batches,
    forward,
    logits_by_batch,
    max_positions,
    pad_left,
    padding_id,
    upcast,
)
from cogcalib.scoring.match import exact_match


@dataclass(frozen=True, slots=True)
class Generation:
    """A greedy continuation.

    Attributes:
        tokens: The tokens generated, the end token included unless the length limit came first.
        logprobs: The log-probability of each, nats.
    """

    tokens: list[int]
    logprobs: list[float]


def score_open_ended(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    model_name: str,
    run: str,
    batch_size: int = 64,
    temperature: Mapping[str, float] | None = None,
    progress: Callable[[int], None] | None = None,
    max_new_tokens: int = 32,
) -> list[Prediction]:
    """Predictions of a model as it stands: training flags and gradients are the caller's.

    Arguments as in `cogcalib.scoring.score`, which is what to call otherwise.

    The answer is what greedy decoding yields up to the end token; it is right if it matches the
    answer or an alias (`exact_match`). With log p over its tokens, the end token included because
    stopping there is part of the answer: ``mean`` = exp(mean log p), ``joint`` = exp(sum log p).
    `nll` is the mean of -log p over the canonical answer's tokens and its end token under teacher
    forcing. One temperature serves all three; it does not change the answer.
    """
    scale = _temperature(temperature)
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    limit = max_positions(model)
    encodings = encode_batch(examples, tokenizer, limit)
    for example, row in zip(examples, encodings, strict=True):
        length = len(row.prompt_ids) + max_new_tokens
        if limit is not None and length > limit:
            raise ValueError(
                f"example {example.id!r}: prompt and max_new_tokens take {length} tokens "
                f"({len(row.prompt_ids)} + {max_new_tokens}), the model has {limit} positions"
            )
    pad_id = padding_id(tokenizer)
    nlls = answer_nll(model, encodings, pad_id=pad_id, batch_size=batch_size, temperature=scale)
    generations = generate(
        model,
        [row.prompt_ids for row in encodings],
        end_id=tokenizer.eos_token_id,
        pad_id=pad_id,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        temperature=scale,
        progress=progress,
    )
    return [
        _prediction(example, generation, nll, tokenizer, model_name, run)
        for example, generation, nll in zip(examples, generations, nlls, strict=True)
    ]


def answer_nll(
    model: PreTrainedModel,
    encodings: Sequence[Encoded],
    *,
    pad_id: int,
    batch_size: int = 64,
    temperature: float = 1.0,
) -> list[float]:
    """Mean NLL of each answer's tokens under teacher forcing, nats, in the order given."""
    nlls = [math.nan] * len(encodings)
    for batch, logits in logits_by_batch(model, encodings, pad_id, batch_size):
        for index, row in zip(batch, logits, strict=True):
            target = torch.tensor(answer_tokens(encodings[index]), device=row.device)
            nlls[index] = torch.nn.functional.cross_entropy(row / temperature, target).item()
    return nlls


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Tokens],
    *,
    end_id: int,
    pad_id: int,
    max_new_tokens: int,
    batch_size: int = 64,
    temperature: float = 1.0,
    progress: Callable[[int], None] | None = None,
) -> list[Generation]:
    """Greedy continuations with the log-probability of each token, in the order given.

    Not transformers' `generate`: that merges whatever the model's generation config names, such
    as a repetition penalty, into a greedy search, and keeps every step's logits.

    Raises:
        ValueError: If the model has no key-value cache.
    """
    generations: list[Generation | None] = [None] * len(prompts)
    done = 0
    for batch in batches(prompts, batch_size):
        tokens, logprobs = _decode(
            model,
            *pad_left([prompts[index] for index in batch], pad_id, model.device),
            end_id=end_id,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
        )
        for index, row, logs in zip(batch, tokens.tolist(), logprobs.tolist(), strict=True):
            length = row.index(end_id) + 1 if end_id in row else len(row)
            generations[index] = Generation(row[:length], logs[:length])
        done += len(batch)
        if progress is not None:
            progress(done)
    return [generation for generation in generations if generation is not None]


def _decode(
    model: PreTrainedModel,
    ids: Tensor,
    mask: Tensor,
    *,
    end_id: int,
    max_new_tokens: int,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Greedy tokens and their log-probabilities, both [b, steps]; what follows an end is void."""
    tokens: list[Tensor] = []
    logprobs: list[Tensor] = []
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    cache = None
    while len(tokens) < max_new_tokens and not ended.all():
        output = forward(model, ids, mask, 1, past_key_values=cache, use_cache=True)
        cache = getattr(output, "past_key_values", None)
        if cache is None:
            raise ValueError(
                f"the model {type(model).__name__} gives no key-value cache to generate with"
            )
        logits = upcast(output.logits[:, -1])
        token = logits.argmax(-1, keepdim=True)
        logprobs.append((logits / temperature).log_softmax(-1).gather(1, token))
        tokens.append(token)
        ended |= token[:, 0] == end_id
        ids, mask = token, torch.cat([mask, torch.ones_like(token)], dim=1)
    return torch.cat(tokens, dim=1), torch.cat(logprobs, dim=1)


def _prediction(
    example: Example,
    generation: Generation,
    nll: float,
    tokenizer: PreTrainedTokenizerBase,
    model_name: str,
    run: str,
) -> Prediction:
    text = str(tokenizer.decode(generation.tokens, skip_special_tokens=True)).strip()
    total = sum(generation.logprobs)
    return Prediction(
        id=example.id,
        task=example.task,
        split=example.split,
        answer=example.answer,
        prediction=text,
        correct=exact_match(text, [example.answer, *example.aliases]),
        nll=nll,
        confidence={
            "mean": min(1.0, math.exp(total / len(generation.logprobs))),
            "joint": min(1.0, math.exp(total)),
        },
        option_logprobs=None,
        model=model_name,
        run=run,
    )


def _temperature(temperature: Mapping[str, float] | None) -> float:
    checked_temperatures(temperature, OPEN_ENDED)
    values = set((temperature or {}).values())
    if len(values) > 1:
        raise ValueError(f"temperature must be one value for mean and joint, got {temperature}")
    return float(values.pop()) if values else 1.0
