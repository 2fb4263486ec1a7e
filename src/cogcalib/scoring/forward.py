"""Forward passes over batches of left-padded sequences, for any causal language model.

Sequences end together, so that the logits wanted (those that predict an answer) are always the
last ones and no others are computed. Positions count from the first real token, which models with
learned absolute positions (GPT-2) need and the others do not mind.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.modeling.encoding import Encoded

Tokens = Sequence[int]


@contextmanager
def inference(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode without gradients; every module's training flag is restored after."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.inference_mode():
            yield
    finally:
        for module, training in flags:
            module.training = training


def batches(sequences: Sequence[Tokens], batch_size: int) -> Iterator[list[int]]:
    """Indices of `sequences` in batches of like length, the longest first.

    The longest batch comes first so that a lack of memory shows at once.

    Raises:
        ValueError: If `batch_size` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    order = sorted(range(len(sequences)), key=lambda index: -len(sequences[index]))
    return (order[start : start + batch_size] for start in range(0, len(order), batch_size))


def pad_left(
    sequences: Sequence[Tokens], pad_id: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both int64 [b, longest], padded on the left."""
    length = max(len(sequence) for sequence in sequences)
    ids = [[pad_id] * (length - len(sequence)) + list(sequence) for sequence in sequences]
    mask = [[0] * (length - len(sequence)) + [1] * len(sequence) for sequence in sequences]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def forward(model: PreTrainedModel, ids: Tensor, mask: Tensor, keep: int, **kwargs: Any) -> Any:
    """The model's output, with logits of at least the last `keep` positions.

    `mask` covers the cached tokens, if any, and `ids`.
    """
    parameters = _parameters(model)
    if "position_ids" in parameters:
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        kwargs["position_ids"] = positions[:, -ids.shape[1] :]
    if "logits_to_keep" in parameters:
        kwargs["logits_to_keep"] = keep
    return model(input_ids=ids, attention_mask=mask, **kwargs)


def last_logits(
    model: PreTrainedModel, sequences: Sequence[Tokens], keep: int, pad_id: int
) -> Tensor:
    """Logits after the last `keep` tokens of every sequence, [b, keep, V], float32 or float64.

    Raises:
        ValueError: If a logit is nan.
    """
    ids, mask = pad_left(sequences, pad_id, model.device)
    return upcast(forward(model, ids, mask, keep, use_cache=False).logits[:, -keep:])


def upcast(logits: Tensor) -> Tensor:
    """Logits in float32, or float64 if they came so.

    Raises:
        ValueError: If a logit is nan, as half precision gives on overflow.
    """
    if logits.isnan().any():
        raise ValueError("the model returned nan logits; load it in float32 or bfloat16")
    return logits if logits.dtype == torch.float64 else logits.float()


def logits_by_batch(
    model: PreTrainedModel, encodings: Sequence[Encoded], pad_id: int, batch_size: int
) -> Iterator[tuple[list[int], list[Tensor]]]:
    """Teacher-forced logits of the answers, batch by batch.

    Yields:
        Indices into `encodings` and for each the logits that predict its `answer_tokens`, [t, V].
    """
    targets = [answer_tokens(row) for row in encodings]
    inputs = [row.prompt_ids + target[:-1] for row, target in zip(encodings, targets, strict=True)]
    for batch in batches(inputs, batch_size):
        keep = max(len(targets[index]) for index in batch)
        logits = last_logits(model, [inputs[index] for index in batch], keep, pad_id)
        yield batch, [row[-len(targets[i]) :] for i, row in zip(batch, logits, strict=True)]


def answer_tokens(encoded: Encoded) -> list[int]:
    """The tokens that are scored: the letter alone, or an open-ended answer and its end token."""
    return encoded.answer_ids if encoded.option_ids is None else encoded.answer_ids[:1]


def max_positions(model: PreTrainedModel) -> int | None:
    """The longest sequence the model was built for, None if it names no limit."""
    limit: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return limit


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """A token to pad with. Padding is masked, so that any token will do."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0)


def _parameters(model: PreTrainedModel) -> Sequence[str]:
    # A PEFT model's own forward takes anything; what counts is the model inside.
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    return tuple(inspect.signature(base.forward).parameters)
