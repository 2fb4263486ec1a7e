"""What the model in training knows of the calibration split: one forward pass, no trace left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import Tensor, nn

from cogcalib.knowledge.threshold import estimate_threshold
from cogcalib.losses import NO_OPTION, NllReduction, cross_entropy, example_nll
from cogcalib.records import Threshold
from cogcalib.training.collator import KNOWN, OPTION_IDS
from cogcalib.training.forward import SupervisedTokens

Forward = Callable[[nn.Module, Mapping[str, Any]], SupervisedTokens]


def known_examples(tokens: SupervisedTokens, option_ids: Tensor | None = None) -> Tensor:
    """Whether the model answers each example correctly by itself, ``[B]`` bool.

    With options: their arg max is the gold one. Otherwise every supervised token, the end token
    included, is the arg max under teacher forcing, which is exactly when greedy decoding yields
    the answer.

    Args:
        tokens: The batch's supervised tokens.
        option_ids: ``[B, K]``, filled up with -1; a row of -1 has no options.
    """
    right = tokens.right
    if option_ids is not None:
        options = tokens.options_at_first(option_ids)
        absent = options == NO_OPTION
        scores = tokens.logits.gather(1, options.clamp(min=0)).masked_fill(absent, -torch.inf)
        if options.shape[1]:
            best = options.gather(1, scores.argmax(1, keepdim=True)).squeeze(1)
            has_options = (option_ids != NO_OPTION).any(1).to(right.device)[tokens.example]
            right = torch.where(has_options, (best == tokens.targets) | ~tokens.first, right)
    wrong = torch.zeros(tokens.n_examples, dtype=torch.long, device=right.device)
    return wrong.index_add(0, tokens.example, (~right).long()) == 0


def calibration_threshold(
    model: nn.Module,
    dataset: Dataset,
    *,
    forward: Forward,
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
    prepare: Callable[[dict[str, Any]], dict[str, Any]],
    accelerator: Accelerator,
    batch_size: int,
    nll_reduction: NllReduction,
    step: int | None,
) -> Threshold:
    """Estimate the threshold of the model as it stands, on all ranks together.

    The batches are cut before they are dealt to the ranks, so that n processes compute what one
    would, to the bit, and every rank ends with the same threshold. No random number is drawn: the
    training goes on as if nothing had happened.

    Args:
        model: The model in training, wrapped or not.
        dataset: Prepared calibration split.
        forward: Maps model and batch to its supervised tokens.
        collate: Makes a batch of rows.
        prepare: Moves a batch to the device.
        accelerator: Of the trainer.
        batch_size: Examples per forward pass.
        nll_reduction: As in the loss.
        step: Optimiser step to record.
    """
    lengths = [len(ids) for ids in dataset["input_ids"]]
    order = sorted(range(len(dataset)), key=lambda index: -lengths[index])
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    result = torch.zeros(2, len(dataset), device=accelerator.device)
    with _undisturbed(model, accelerator.device):
        # Sharded models gather their weights together: no rank may make fewer passes than another.
        rounds = -(-len(batches) // accelerator.num_processes)
        for turn in range(rounds):
            position = turn * accelerator.num_processes + accelerator.process_index
            rows = batches[min(position, len(batches) - 1)]
            batch = prepare(collate([dataset[index] for index in rows]))
            option_ids = batch.pop(OPTION_IDS, None)
            batch.pop(KNOWN, None)
            tokens = forward(model, batch)
            if position < len(batches):
                ce = cross_entropy(tokens.logits, tokens.targets)
                nll = example_nll(ce, tokens.example, tokens.n_examples, nll_reduction)
                known = known_examples(tokens, option_ids)
                result[:, rows] = torch.stack([nll, known.to(nll)]).to(result)
    nll, known = accelerator.reduce(result, reduction="sum").cpu().numpy()
    return estimate_threshold(nll, known == 1, step=step)


@contextmanager
def _undisturbed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Eval mode without gradients; flags and random numbers are put back as they were."""
    in_training = [module for module in model.modules() if module.training]
    devices = [device] if device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices):
        model.eval()
        try:
            yield
        finally:
            for module in in_training:
                module.training = True
