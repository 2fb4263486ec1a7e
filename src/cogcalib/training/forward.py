"""One forward pass, projected on the vocabulary at the supervised positions only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cogcalib.losses import NO_OPTION

IGNORED = -100


@dataclass(frozen=True, slots=True)
class SupervisedTokens:
    """What the model says at the N supervised tokens of a batch of B examples.

    Attributes:
        logits: Next-token logits, ``[N, V]``.
        targets: Token ids, ``[N]``.
        example: Index of the example each token belongs to, ascending, ``[N]``.
        n_examples: B.
        aux_loss: Load-balancing loss of a mixture of experts, or None.
    """

    logits: Tensor
    targets: Tensor
    example: Tensor
    n_examples: int
    aux_loss: Tensor | None

    @property
    def first(self) -> Tensor:
        """Whether a token is the first supervised one of its example, ``[N]`` bool."""
        before = torch.full_like(self.example[:1], -1)
        return self.example != torch.cat([before, self.example[:-1]])

    @property
    def right(self) -> Tensor:
        """Whether a token is the most likely one, ``[N]`` bool."""
        return self.logits.argmax(1) == self.targets

    def options_at_first(self, option_ids: Tensor) -> Tensor:
        """The options ``[B, K]`` at the token where they compete, -1 elsewhere: ``[N, K]``."""
        options = option_ids.to(self.example.device)[self.example]
        return options.masked_fill(~self.first[:, None], NO_OPTION)


def supervised_tokens(
    model: nn.Module, head: nn.Module, inputs: Mapping[str, Any]
) -> SupervisedTokens:
    """Run the model and keep the logits that predict a supervised token.

    The model's own forward does the work, so that logit scales, softcaps and biases of any
    architecture apply; its head merely gets to see the supervised positions, since with short
    answers the logits of the prompt would take most of the memory.

    Args:
        model: The model, wrapped for distributed training or not.
        head: Its output embeddings.
        inputs: A batch with ``labels``; position *t* predicts the label of position *t + 1*.
    """
    labels = inputs["labels"]
    supervised = torch.zeros_like(labels, dtype=torch.bool)
    supervised[:, :-1] = labels[:, 1:] != IGNORED
    arguments = {name: value for name, value in inputs.items() if name != "labels"}
    with _only_at(head, supervised):
        outputs = model(**arguments, use_cache=False)
    logits = outputs.logits
    if logits.shape[:2] == supervised.shape:  # the model applied its head's weight by hand
        logits = logits[supervised.to(logits.device)]
    else:
        logits = logits.squeeze(0)
    return SupervisedTokens(
        logits=logits,
        targets=labels[:, 1:][supervised[:, :-1]].to(logits.device),
        example=supervised.nonzero()[:, 0].to(logits.device),
        n_examples=len(labels),
        aux_loss=getattr(outputs, "aux_loss", None),
    )


@contextmanager
def _only_at(head: nn.Module, positions: Tensor) -> Iterator[None]:
    """Let `head` see ``hidden[positions]`` as one row, ``[1, N, H]``."""

    def keep(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, *others = arguments
        return (hidden[positions.to(hidden.device)].unsqueeze(0), *others)

    handle = head.register_forward_pre_hook(keep)
    try:
        yield
    finally:
        handle.remove()
