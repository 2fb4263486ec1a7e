"""A language model as a classifier over option letters, and the weights of its adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.inference.logits import forward, max_positions
from cogcalib.modeling.option_letters import encode_choices
from cogcalib.records import Example
from cogcalib.scoring import ScoreSettings

ABSENT = -1e4
"""Logit of an option that a question does not have: its probability is 0, its slopes too."""

BATCH = 8


@dataclass(frozen=True, slots=True)
class Question:
    """One question as the classifier is asked it.

    Attributes:
        prompt_ids: Tokens of the prompt.
        option_ids: The token of each option's letter.
        label: Index of the correct option.
    """

    prompt_ids: list[int]
    option_ids: list[int]
    label: int


def encode_questions(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> list[Question]:
    """Multiple-choice examples as questions.

    Raises:
        ValueError: As `encode_choices`.
    """
    rows = encode_choices(examples, tokenizer, max_positions(model))
    return [
        Question(
            prompt_ids=row.prompt_ids,
            option_ids=[forms[0] for forms in row.forms],
            label=[option.letter for option in example.options or ()].index(example.answer),
        )
        for row, example in zip(rows, examples, strict=True)
    ]


class OptionLogits(nn.Module):
    """Maps a batch of `Batches` to the logits of its options, [b, K]."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Logits of the options, [b, K], `ABSENT` where there is none."""
        ids, options = batch["input_ids"], batch["option_ids"]
        logits = forward(self.model, ids, torch.ones_like(ids), 1, use_cache=False).logits[:, -1]
        if logits.dtype != torch.float64:
            logits = logits.float()
        return logits.gather(1, options.clamp(min=0)).masked_fill(options < 0, ABSENT)


def option_jacobian(
    classifier: OptionLogits, batch: dict[str, Tensor], weights: Sequence[nn.Parameter]
) -> tuple[Tensor, Tensor]:
    """Logits of the options and their slopes in `weights`, question by question.

    One pass forward and one back per option serve the whole batch: what a linear layer got, and the
    gradient of what it gave, make the slopes of each question, ``sum_s g_s a_s^T``.

    Args:
        classifier: Maps the batch to logits.
        batch: Of `Batches`.
        weights: Weights of linear layers, each used once in a pass; all take gradients.

    Returns:
        Logits, [b, K], and slopes, [b, K, P], P the numbers in `weights`, one after the other.
    """
    index = {id(weight): at for at, weight in enumerate(weights)}
    taken: dict[int, Tensor] = {}
    given: dict[int, Tensor] = {}

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        at = index[id(module.weight)]
        taken[at], given[at] = inputs[0].detach(), output

    layers = [
        module
        for module in classifier.modules()
        if isinstance(module, nn.Linear) and id(module.weight) in index
    ]
    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        logits = classifier(batch)
    finally:
        for handle in handles:
            handle.remove()
    order = range(len(weights))
    rows = []
    for column in logits.sum(0):
        slopes = torch.autograd.grad(column, [given[at] for at in order], retain_graph=True)
        blocks = [torch.einsum("bsi,bsj->bij", slopes[at], taken[at]) for at in order]
        rows.append(torch.cat([block.flatten(1) for block in blocks], dim=1))
    return logits.detach(), torch.stack(rows, dim=1)


class Batches:
    """Questions in batches of one length each, so that nothing is padded.

    Args:
        questions: What is batched.
        settings: Batch size (`BATCH` if None) and progress.
        device: Where the tensors go.
        options: Columns of the options' ids; what a question lacks is -1.

    Attributes:
        dataset: The questions; laplace-torch asks for their number.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        settings: ScoreSettings,
        device: torch.device,
        options: int,
    ) -> None:
        self.dataset = questions
        self._settings, self._device, self._options = settings, device, options
        self._size = settings.batch_size or BATCH

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return (batch for _, batch in self.with_indices())

    def __len__(self) -> int:
        return len(list(self._indices()))

    def with_indices(self) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        """Indices of a batch's questions, and its tensors."""
        done = 0
        for indices in self._indices():
            yield indices, self._batch([self.dataset[index] for index in indices])
            done += len(indices)
            if self._settings.progress is not None:
                self._settings.progress(done)

    def _indices(self) -> Iterator[list[int]]:
        by_length: dict[int, list[int]] = {}
        for index, question in enumerate(self.dataset):
            by_length.setdefault(len(question.prompt_ids), []).append(index)
        for length in sorted(by_length, reverse=True):
            alike = by_length[length]
            for start in range(0, len(alike), self._size):
                yield alike[start : start + self._size]

    def _batch(self, questions: Sequence[Question]) -> dict[str, Tensor]:
        options = [
            row.option_ids + [-1] * (self._options - len(row.option_ids)) for row in questions
        ]
        return {
            "input_ids": torch.tensor([row.prompt_ids for row in questions], device=self._device),
            "option_ids": torch.tensor(options, device=self._device),
            "labels": torch.tensor([row.label for row in questions], device=self._device),
        }


def adapter_weights(model: nn.Module, *, last: bool) -> list[nn.Parameter]:
    """The weights of a model's LoRA adapter.

    Args:
        model: A model with an adapter.
        last: Only those of the output layer if it has an adapter, else of the last decoder layer.

    Raises:
        ValueError: If there is no adapter, it is merged, or adapts more than linear layers.
    """
    modules = {name: module for name, module in model.named_modules() if "lora_" in name}
    linear = {name: m for name, m in modules.items() if isinstance(m, nn.Linear)}
    found = {id(weight): name for name, m in linear.items() for weight in m.parameters()}
    others = [
        name for name, w in model.named_parameters() if "lora_" in name and id(w) not in found
    ]
    if others:
        raise ValueError(
            f"the adapter must adapt linear layers only, and by two matrices; got {others[0]}"
        )
    if not linear:
        raise ValueError("the model has no LoRA adapter: Laplace-LoRA is over its weights")
    if any(getattr(module, "merged", False) for module in model.modules()):
        raise ValueError("the adapter is merged into the model: load it without merging")
    if not last:
        return [weight for m in linear.values() for weight in m.parameters()]
    head = getattr(model, "get_output_embeddings", lambda: None)()
    ids = _ids(head) & set(found) if head is not None else set()
    if not ids:
        blocks = max((m for m in model.modules() if isinstance(m, nn.ModuleList)), key=len)
        ids = next(own for block in reversed(blocks) if (own := _ids(block) & set(found)))
    return [weight for m in linear.values() for weight in m.parameters() if id(weight) in ids]


def _ids(module: nn.Module) -> set[int]:
    return {id(weight) for weight in module.parameters()}


@contextmanager
def only_trainable(model: nn.Module, weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Evaluation mode with gradients for `weights` alone; all flags are restored after."""
    training = [(module, module.training) for module in model.modules()]
    gradients = [(weight, weight.requires_grad) for weight in model.parameters()]
    wanted = {id(weight) for weight in weights}
    try:
        model.eval()
        for weight in model.parameters():
            weight.requires_grad_(id(weight) in wanted)
        with torch.enable_grad():
            yield
    finally:
        for module, flag in training:
            module.training = flag
        for weight, flag in gradients:
            weight.requires_grad_(flag)
