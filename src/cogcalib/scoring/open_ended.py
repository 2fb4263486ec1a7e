"""Open-ended questions: greedy answers, their confidence, and the NLL of the canonical answer."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.inference.batching import by_length
from cogcalib.inference.forward import Reader, forward, max_positions, pad_left, padding_id, upcast
from cogcalib.inference.prefix import Tokens
from cogcalib.modeling.encoding import Encoded
from cogcalib.records import Example, Prediction
from cogcalib.scoring.few_shot import encode_open
from cogcalib.scoring.match import exact_match
from cogcalib.scoring.settings import DEFAULTS, ScoreSettings


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
    settings: ScoreSettings = DEFAULTS,
) -> list[Prediction]:
    """Predictions of a model as it stands: training flags and gradients are the caller's.

    As `cogcalib.scoring.score`, which is what to call otherwise.

    The answer is what greedy decoding yields up to the end token or, outside a chat, a line break
    (`cogcalib.scoring.few_shot.encode_open`); it is right if it matches the answer or an alias
    (`exact_match`). With log p over its tokens, the end token included because stopping there is
    part of the answer: ``mean`` = exp(mean log p), ``joint`` = exp(sum log p). `nll` is the mean of
    -log p over the canonical answer's tokens and its end token under teacher forcing. One
    temperature serves all three; it does not change the answer. Behind shots the canonical answer's
    NLL is over its own tokens alone.
    """
    settings.generation_temperature()
    limit, most = max_positions(model), settings.max_new_tokens
    encodings, ends = encode_open(examples, tokenizer, limit, settings.shots)
    for example, row in zip(examples, encodings, strict=True):
        length = len(row.prompt_ids) + most
        if limit is not None and length > limit:
            raise ValueError(
                f"example {example.id!r}: prompt and max_new_tokens take {length} tokens "
                f"({len(row.prompt_ids)} + {most}), the model has {limit} positions"
            )
    pad_id = padding_id(tokenizer)
    nlls = answer_nll(model, encodings, pad_id, settings)
    prompts = [row.prompt_ids for row in encodings]
    generations = generate(model, prompts, ends, pad_id, settings)
    return [
        judge(example, generation, nll, tokenizer, settings, ends)
        for example, generation, nll in zip(examples, generations, nlls, strict=True)
    ]


def answer_nll(
    model: PreTrainedModel,
    encodings: Sequence[Encoded],
    pad_id: int,
    settings: ScoreSettings = DEFAULTS,
) -> list[float]:
    """Mean NLL of each answer's tokens under teacher forcing, nats, in the order given."""
    temperature = settings.generation_temperature()
    targets = [row.answer_ids for row in encodings]
    inputs = [row.input_ids[:-1] for row in encodings]
    kept = [len(row) for row in targets]
    reader = Reader(model, inputs, kept, pad_id, share=settings.share_prefix)

    def work(batch: list[int]) -> list[float]:
        flat = torch.tensor([id for index in batch for id in targets[index]], device=model.device)
        logits = reader.logits(batch) / temperature
        nll = torch.nn.functional.cross_entropy(logits, flat, reduction="none")
        return [row.mean().item() for row in nll.split([kept[index] for index in batch])]

    return by_length(reader.lengths, work, settings, model.device, counted=False)


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Tokens],
    ends: Collection[int],
    pad_id: int,
    settings: ScoreSettings = DEFAULTS,
) -> list[Generation]:
    """Greedy continuations with the log-probability of each token, in the order given.

    Not transformers' `generate`: that merges whatever the model's generation config names, such
    as a repetition penalty, into a greedy search, and keeps every step's logits.

    Args:
        model: A causal language model with a key-value cache.
        prompts: Token ids.
        ends: The tokens that end an answer.
        pad_id: Any token.
        settings: Temperature, batch size, longest answer.

    Raises:
        ValueError: If the model has no key-value cache.
    """
    temperature, most = settings.generation_temperature(), settings.max_new_tokens

    def work(batch: list[int]) -> list[Generation]:
        ids, mask = pad_left([prompts[index] for index in batch], pad_id, model.device)
        tokens, logprobs = _decode(
            model, ids, mask, ends=ends, max_new_tokens=most, temperature=temperature
        )
        rows = []
        for row, logs in zip(tokens.tolist(), logprobs.tolist(), strict=True):
            length = answer_length(row, ends)
            rows.append(Generation(row[:length], logs[:length]))
        return rows

    return by_length([len(row) + most for row in prompts], work, settings, model.device)


def answer_length(tokens: Sequence[int], ends: Collection[int]) -> int:
    """How many of the tokens belong to the answer, the one that ends it among them."""
    return next((at for at, token in enumerate(tokens, start=1) if token in ends), len(tokens))


def _decode(
    model: PreTrainedModel,
    ids: Tensor,
    mask: Tensor,
    *,
    ends: Collection[int],
    max_new_tokens: int,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Greedy tokens and their log-probabilities, both [b, steps]; what follows an end is void."""
    tokens: list[Tensor] = []
    logprobs: list[Tensor] = []
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    last = torch.tensor(sorted(ends), device=ids.device)
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
        ended |= torch.isin(token[:, 0], last)
        ids, mask = token, torch.cat([mask, torch.ones_like(token)], dim=1)
    return torch.cat(tokens, dim=1), torch.cat(logprobs, dim=1)


def judge(
    example: Example,
    generation: Generation,
    nll: float,
    tokenizer: PreTrainedTokenizerBase,
    settings: ScoreSettings,
    ends: Collection[int],
) -> Prediction:
    """The prediction that a generated answer makes, see `score_open_ended`."""
    said = [token for token in generation.tokens if token not in ends]
    text = str(tokenizer.decode(said, skip_special_tokens=True)).strip()
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
        model=settings.model_name,
        run=settings.run,
    )
