"""``penalty="anchor"``: what the base model says of each training example, measured once.

The base is the model with its adapter off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate, chain
from typing import Any

import torch
from accelerate import Accelerator
from datasets import Dataset
from peft import PeftModel
from torch import Tensor, nn

from cogcalib.losses import BaseAnswers, Support
from cogcalib.modeling.encoding import IGNORED
from cogcalib.training.collator import KNOWN, NUMBER, OPTION_IDS
from cogcalib.training.config import CogCalibConfig
from cogcalib.training.defaults import ANCHOR_TOKENS
from cogcalib.training.loss import LossRunner
from cogcalib.training.packing import LENGTHS, examples
from cogcalib.training.supervised_logits import undisturbed
from cogcalib.training.supervision import SupervisedTokens, Unit, supervised_tokens

_NOT_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations of LoRA that change the frozen weights: with the adapter off the model is another
one than was loaded."""


def refuse_without_base(args: CogCalibConfig, model: nn.Module, *, sharded: bool) -> None:
    """Raise ValueError where the base model could not be asked during the training.

    Args:
        args: The configuration.
        model: The model before it is wrapped.
        sharded: Whether FSDP or DeepSpeed will divide its weights.
    """
    if args.penalty != "anchor" or args.gate == "none":
        return
    need = "penalty='anchor' asks the base model, which is the model with its adapter off"
    if not isinstance(model, PeftModel):
        raise ValueError(
            f"{need}: full fine-tuning changes the base itself; give peft_config, such as a "
            f"LoraConfig, got none and a {type(model).__name__}"
        )
    if sharded:
        raise ValueError(
            f"{need}: with FSDP and DeepSpeed, which divide the weights, nobody has tried to turn "
            "it off; train on one GPU or on several by DDP"
        )
    if args.torch_compile:
        raise ValueError(
            f"{need}: with torch_compile=True nobody has tried to turn it off; leave it out"
        )
    for config in model.peft_config.values():
        initial, bias = (getattr(config, n, None) for n in ("init_lora_weights", "bias"))
        if isinstance(initial, str) and initial.startswith(_NOT_THE_BASE):
            raise ValueError(
                f"{need}: init_lora_weights={initial!r} changes the weights under the adapter, so "
                "that without it the model is not the one that was loaded; use True or 'gaussian'"
            )
        if bias not in (None, "none"):
            raise ValueError(f"{need}: bias={bias!r} trains biases of the base; use bias='none'")
    # Modules and tokens trained beside the adapter are copies, which PEFT turns off with it.
    own = (str(model.base_model.prefix), "modules_to_save.", "trainable_tokens_")
    for name, weight in model.named_parameters():
        if weight.requires_grad and not any(part in name for part in own):
            raise ValueError(f"{need}: {name} is trained and belongs to the base; freeze it")


@contextmanager
def adapter_off(model: PeftModel) -> Iterator[None]:
    """The base model; which weights take a gradient is as before afterwards."""
    flags = [(weight, weight.requires_grad) for weight in model.parameters()]
    try:
        with model.disable_adapter():
            yield
    finally:  # PEFT lets every weight of the adapter learn again, those that were frozen, too
        for weight, learns in flags:
            weight.requires_grad_(learns)


class Anchor:
    """The base model's answers to n training examples, by the examples' numbers.

    Args:
        dataset: Prepared training examples with their numbers, packed or not.
        support: Over the options an example has one row, at the token where they compete; over the
            vocabulary one for each supervised token.
        device: Where the answers are kept: 4 bytes for each option, over the vocabulary 388 for
            each supervised token.
    """

    def __init__(self, dataset: Dataset, support: Support, device: torch.device) -> None:
        numbers = _of_examples(dataset, NUMBER)
        self._over_options = support == "options"
        if self._over_options:
            width = max(len(ids or ()) for ids in _of_examples(dataset, OPTION_IDS))
            sizes = [1] * len(numbers)
        else:
            width = ANCHOR_TOKENS
            sizes = [sum(y != IGNORED for y in labels[1:]) for _, labels in examples(dataset)]
        self._starts = torch.zeros(max(numbers) + 1, dtype=torch.long, device=device)
        self._starts[torch.tensor(numbers, device=device)] = torch.tensor(
            list(accumulate(sizes[:-1], initial=0)), device=device
        )
        self._width, self._rows, self._device = width, sum(sizes), device
        self._answers: BaseAnswers | None = None

    def measure(
        self,
        model: nn.Module,
        dataset: Dataset,
        *,
        runner: LossRunner,
        collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
        prepare: Callable[[dict[str, Any]], dict[str, Any]],
        accelerator: Accelerator,
        batch_size: int,
        unit: Unit,
    ) -> None:
        """Ask the base model, on all ranks together, without a random number.

        The same in the first process of a training and in one that goes on from a checkpoint: the
        base and the batches are the same.

        Args:
            model: The model in training, wrapped or not.
            dataset: That of the constructor.
            runner: Takes batches through the model.
            collate: Makes a batch of rows, as for the training.
            prepare: Moves a batch to the device.
            accelerator: Of the trainer.
            batch_size: Rows per forward pass.
            unit: As in the loss.
        """
        lengths = [len(ids) for ids in dataset["input_ids"]]
        order = sorted(range(len(dataset)), key=lambda index: -lengths[index])
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        runner.try_head(model)  # as it is in the training
        rounds, found = -(-len(batches) // accelerator.num_processes), None
        with undisturbed(model, accelerator.device), adapter_off(accelerator.unwrap_model(model)):
            for turn in range(rounds):
                position = turn * accelerator.num_processes + accelerator.process_index
                rows = batches[min(position, len(batches) - 1)]
                batch = prepare(collate([dataset[index] for index in rows]))
                option_ids, numbers = batch.pop(OPTION_IDS, None), batch.pop(NUMBER)
                batch.pop(KNOWN, None)
                tokens = supervised_tokens(batch, unit, option_ids)
                answers = self._ask(runner, model, batch, tokens)
                found = self._empty(answers) if found is None else found
                if position < len(batches):
                    self._keep(found, answers, tokens, numbers)
        assert found is not None
        ids = None if found.ids is None else accelerator.reduce(found.ids, "sum")
        self._answers = BaseAnswers(accelerator.reduce(found.log_p, "sum"), ids)

    def of(self, tokens: SupervisedTokens, numbers: Tensor) -> BaseAnswers:
        """What the base says at the supervised tokens of a batch.

        Args:
            tokens: The tokens.
            numbers: Of the batch's examples, ``[E]``.
        """
        assert self._answers is not None, "measure comes first"
        found = self._answers.rows(self._places(tokens, numbers))
        if self._over_options:
            width = 0 if tokens.options is None else tokens.options.shape[1]
            return BaseAnswers(found.log_p[:, :width])
        return found

    def _ask(
        self,
        runner: LossRunner,
        model: nn.Module,
        batch: dict[str, Any],
        tokens: SupervisedTokens,
    ) -> BaseAnswers:
        if not self._over_options:
            return runner.most_probable(model, batch, tokens, self._width)
        scores = runner.statistics(model, batch, tokens).option_scores
        assert scores is not None
        absent = self._width - scores.shape[1]
        wide = nn.functional.pad(scores, (0, absent), value=-torch.inf)
        return BaseAnswers(wide.log_softmax(1))

    def _empty(self, like: BaseAnswers) -> BaseAnswers:
        def zeros(tensor: Tensor) -> Tensor:
            return torch.zeros(self._rows, tensor.shape[1], dtype=tensor.dtype, device=self._device)

        return BaseAnswers(zeros(like.log_p), None if like.ids is None else zeros(like.ids))

    def _keep(
        self, found: BaseAnswers, answers: BaseAnswers, tokens: SupervisedTokens, numbers: Tensor
    ) -> None:
        places = self._places(tokens, numbers)
        if self._over_options and tokens.options is not None:
            competing = (tokens.options >= 0).any(1).to(places.device)
            found.log_p[places[competing]] = answers.log_p.to(self._device)[competing]
            return
        for kept, asked in zip(found, answers, strict=True):
            if kept is not None and asked is not None:
                kept[places] = asked.to(self._device)

    def _places(self, tokens: SupervisedTokens, numbers: Tensor) -> Tensor:
        """The row of each supervised token, ``[N]``."""
        units = tokens.units.to(self._device)
        example = units.example[units.index]
        starts = self._starts[numbers.to(self._device)][example]
        if self._over_options:
            return starts
        first = torch.searchsorted(example, example)  # ascending: where its example begins
        return starts + torch.arange(len(example), device=self._device) - first


def _of_examples(dataset: Dataset, column: str) -> list[Any]:
    """The column's value for each example; a packed row has a list of them."""
    values = dataset[column]
    return list(chain.from_iterable(values) if LENGTHS in dataset.column_names else values)
