"""Logits of any causal language model at the positions wanted, and at no others.

Batches of whole sequences are padded on the right: a causal model does not look ahead, so padding
needs no mask and positions count from the first token by themselves. Only the hidden states that
predict an answer reach the output layer. Batches that go on growing, in generation, are padded on
the left instead (`pad_left`, `forward`), where their ends meet.
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

from cogcalib.inference.backend import FirstToken, Tokens
from cogcalib.inference.prefix import Prefix, compute_prefix, shared_length
from cogcalib.inference.wide_head import wide_head


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


class LogitReader:
    """Reads a model's logits after the last tokens of sequences, batch by batch.

    Args:
        model: A causal language model, in the mode it is to be read in.
        sequences: Token ids.
        kept: For each, after how many of its last tokens the logits are wanted; at least one.
        pad_id: Any token.
        share: Compute what all sequences begin with once, where that is worth it.

    Attributes:
        prefix: What was computed once, None if nothing was.
        lengths: What each sequence takes of a batch's tokens. A token of the prefix is not computed
            again but copied, and counts as a quarter.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        sequences: Sequence[Tokens],
        kept: Sequence[int],
        pad_id: int,
        *,
        share: bool = True,
    ) -> None:
        self.model, self.kept, self.pad_id = model, kept, pad_id
        names = _parameters(model)
        self.prefix: Prefix | None = None
        if share and "past_key_values" in names and (length := shared_length(sequences, kept)):
            last = {"logits_to_keep": 1} if "logits_to_keep" in names else {}
            self.prefix = compute_prefix(model, sequences[0][:length], **last)
        start = self.prefix.length if self.prefix else 0
        self.rest = [list(row[start:]) for row in sequences]
        self.lengths = [start // 4 + len(row) for row in self.rest]

    def logits(self, batch: Sequence[int]) -> Tensor:
        """Logits of the sequences of `batch`, one after the other, float32 or float64 [k, V].

        Raises:
            ValueError: If a logit is nan.
        """
        device = self.model.device
        ids = pad_right([self.rest[i] for i in batch], self.pad_id, device)
        rows = [row for row, i in enumerate(batch) for _ in range(self.kept[i])]
        ends = [(len(self.rest[i]), self.kept[i]) for i in batch]
        columns = [column for end, keep in ends for column in range(end - keep, end)]
        wanted = (torch.tensor(rows, device=device), torch.tensor(columns, device=device))
        cache = {"past_key_values": self.prefix.repeated(len(batch))} if self.prefix else {}
        return upcast(_picked(self.model, ids, wanted, use_cache=bool(cache), **cache))


def read_first_tokens(logits: Tensor, wanted: Sequence[Sequence[int]]) -> list[FirstToken]:
    """Each row's best log-probability and the logits of the tokens wanted of it.

    Args:
        logits: Over the vocabulary, float32 or float64 [n, V].
        wanted: For each row, token ids.
    """
    first = logits.max(-1)
    # Apart from the largest: next to it float32 loses what is below 6e-8 of it.
    rest = _double(logits.scatter(1, first.indices[:, None], -torch.inf).logsumexp(-1))
    top = _double(first.values)
    most = max(map(len, wanted))
    padded = [[*row, *[0] * (most - len(row))] for row in wanted]
    ids = torch.tensor(padded, dtype=torch.int64, device=logits.device)
    scores = _double(logits.gather(1, ids)).tolist()
    best, total = (-torch.log1p((rest - top).exp())).tolist(), torch.logaddexp(top, rest).tolist()
    return [
        FirstToken(best[row], dict(zip(tokens, scores[row], strict=False)), total[row])
        for row, tokens in enumerate(wanted)
    ]


def _double(values: Tensor) -> Tensor:
    """A few values in float64, which not every device has."""
    return values.cpu().double()


def _picked(
    model: PreTrainedModel, ids: Tensor, wanted: tuple[Tensor, Tensor], **kwargs: Any
) -> Tensor:
    """Logits at (rows, columns) of the batch, [k, V]; the output layer sees no other position."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    if head is None:
        return _call(model, ids, kwargs)[wanted]
    hook = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][wanted][None], *inputs[1:]))
    try:
        with wide_head(model):
            logits = _call(model, ids, kwargs)
    finally:
        hook.remove()
    # A model that multiplies with the weights itself has given all positions.
    return logits[wanted] if logits.shape[:2] == ids.shape else logits[0]


def _call(model: PreTrainedModel, ids: Tensor, kwargs: dict[str, Any]) -> Tensor:
    logits: Tensor = model(input_ids=ids, **kwargs).logits
    return logits


def pad_right(
    sequences: Sequence[Tokens], pad_id: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Token ids, int64 [b, longest], padded on the right."""
    length = max(len(row) for row in sequences)
    ids = [[*row, *[pad_id] * (length - len(row))] for row in sequences]
    return torch.tensor(ids, device=device)


def pad_left(
    sequences: Sequence[Tokens], pad_id: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both int64 [b, longest], padded on the left."""
    length = max(len(sequence) for sequence in sequences)
    ids = [[pad_id] * (length - len(sequence)) + list(sequence) for sequence in sequences]
    mask = [[0] * (length - len(sequence)) + [1] * len(sequence) for sequence in sequences]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def forward(model: PreTrainedModel, ids: Tensor, mask: Tensor, keep: int, **kwargs: Any) -> Any:
    """The model's output for a batch padded on the left, with at least the last `keep` logits.

    `mask` covers the cached tokens, if any, and `ids`. Positions count from the first real token,
    which models with learned absolute positions (GPT-2) need and the others do not mind.
    """
    parameters = _parameters(model)
    if "position_ids" in parameters:
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        kwargs["position_ids"] = positions[:, -ids.shape[1] :]
    if "logits_to_keep" in parameters:
        kwargs["logits_to_keep"] = keep
    with wide_head(model):
        return model(input_ids=ids, attention_mask=mask, **kwargs)


def upcast(logits: Tensor) -> Tensor:
    """Logits in float32, or float64 if they came so.

    Raises:
        ValueError: If a logit is nan, as half precision gives on overflow.
    """
    # The sum is nan if any logit is (or if infinities cancel, which is no better).
    if logits.sum().isnan():
        raise ValueError("the model returned nan logits; load it in float32 or bfloat16")
    return logits if logits.dtype == torch.float64 else logits.float()


def max_positions(model: PreTrainedModel) -> int | None:
    """The longest sequence the model was built for, None if it names no limit."""
    limit: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return limit


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """A token to pad with. Padding is never looked at, so that any token will do."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0)


def _parameters(model: PreTrainedModel) -> Sequence[str]:
    # A PEFT model's own forward takes anything; what counts is the model inside.
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    return tuple(inspect.signature(base.forward).parameters)
