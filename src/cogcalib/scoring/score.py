"""Model and examples in, predictions out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.modeling.encoding import encode_batch
from cogcalib.records import Example, Prediction
from cogcalib.scoring import forward
from cogcalib.scoring.multiple_choice import score_multiple_choice
from cogcalib.scoring.open_ended import score_open_ended


def score(
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
    """Score a model on examples, all multiple choice or all open-ended.

    The model is put into evaluation mode, and back.

    Args:
        model: A Hugging Face causal language model, with or without an adapter.
        tokenizer: Its tokenizer.
        examples: Examples with distinct ids.
        model_name: Goes into `Prediction.model`.
        run: Goes into `Prediction.run`.
        batch_size: Examples in one forward pass; it changes speed and memory, not the results.
        temperature: Confidence definition -> temperature its logits are divided by. Multiple
            choice: `nll` and `option_logprobs` follow ``options``. Open-ended: ``mean`` and
            ``joint`` share one, which `nll` follows.
        progress: Called with the number of examples done, after each batch.
        max_new_tokens: Longest open-ended answer, in tokens.

    Returns:
        One prediction per example, in the order given.

    Raises:
        ValueError: If the two kinds are mixed, ids repeat, an example is longer than the model has
            positions, or another argument is out of its range.
    """
    _check(examples)
    if not examples:
        return []
    common: dict[str, Any] = {
        "model_name": model_name,
        "run": run,
        "batch_size": batch_size,
        "temperature": temperature,
        "progress": progress,
    }
    with forward.inference(model):
        if examples[0].options is not None:
            return score_multiple_choice(model, tokenizer, examples, **common)
        return score_open_ended(model, tokenizer, examples, max_new_tokens=max_new_tokens, **common)


def answer_logits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    batch_size: int = 64,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits that predict the gold answers, and the gold tokens: what temperatures are fitted on.

    Args:
        model: A Hugging Face causal language model, with or without an adapter.
        tokenizer: Its tokenizer.
        examples: Examples with distinct ids, all multiple choice or all open-ended, at least one.
        batch_size: Examples in one forward pass.

    Returns:
        Logits over the vocabulary, float32 [n, V], and token ids, int64 [n], in the order given.
        Multiple choice: n examples, each at its letter. Open-ended: n answer tokens, end tokens
        included, example after example.

    Raises:
        ValueError: As `score`, or if there is no example.
    """
    _check(examples)
    if not examples:
        raise ValueError("examples is empty: there are no logits to collect")
    encodings = encode_batch(examples, tokenizer, forward.max_positions(model))
    rows: list[NDArray[np.float32]] = [np.empty((0, 0), np.float32)] * len(examples)
    with forward.inference(model):
        for batch, logits in forward.logits_by_batch(
            model, encodings, forward.padding_id(tokenizer), batch_size
        ):
            for index, row in zip(batch, logits, strict=True):
                rows[index] = row.to("cpu", torch.float32).numpy()
    gold = [token for row in encodings for token in forward.answer_tokens(row)]
    return np.concatenate(rows), np.array(gold, dtype=np.int64)


def _check(examples: Sequence[Example]) -> None:
    repeated = [id for id, count in Counter(e.id for e in examples).items() if count > 1]
    if repeated:
        raise ValueError(f"examples must have distinct ids, {repeated[0]!r} comes more than once")
    kinds = {example.options is None for example in examples}
    if len(kinds) > 1:
        raise ValueError("examples must be all multiple choice or all open-ended, got both")
