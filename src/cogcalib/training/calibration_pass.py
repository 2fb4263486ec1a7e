"""What the model in training knows of the calibration split: one forward pass, no trace left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import Tensor, nn

from cogcalib.knowledge.threshold import estimate_threshold
from cogcalib.losses import (
    NO_OPTION,
    NllReduction,
    Support,
    TokenStatistics,
    example_nll,
    known_examples,
)
from cogcalib.records import Threshold
from cogcalib.training.collator import KNOWN, OPTION_IDS
from cogcalib.training.curve import AccuracyCurve
from cogcalib.training.forward import Located, locate, undisturbed
from cogcalib.training.loss import Reader
from cogcalib.training.supervision import Unit, unit_starts


@dataclass(frozen=True, slots=True)
class CalibrationReading:
    """What the calibration split says of a model.

    Attributes:
        threshold: On the NLL of what it knows.
        confidence: Mean over the units of `confident_units`, a fraction.
        accuracy: The same of being right.
        curve: How the one depends on the other.
    """

    threshold: Threshold
    confidence: float
    accuracy: float
    curve: AccuracyCurve


def known_units(statistics: TokenStatistics, located: Located) -> Tensor:
    """Whether the model answers correctly by itself, for each unit: `known_examples`, ``[U]``."""
    units = located.units
    return known_examples(statistics, located.targets, units.index, len(units), located.options)


def confident_units(
    statistics: TokenStatistics, located: Located, support: Support
) -> tuple[Tensor, Tensor]:
    """Confidence in its own answer and whether that is right, for each unit, both ``[U]``.

    With options, at the token where they compete: the largest probability among them or over the
    whole vocabulary, as `support` says, and whether their arg max is the gold one. Otherwise
    ``mean``, the confidence that open-ended answers are scored by: exp of the mean over the unit's
    tokens of the largest log-probability, under teacher forcing, and whether every token is gold.
    """
    units, options, scores = located.units, located.options, statistics.option_scores
    log_confidence, counted = statistics.log_confidence, torch.ones_like(statistics.right)
    if options is not None and scores is not None and scores.shape[1]:
        competing = (options != NO_OPTION).any(1)
        if support == "options":
            share = scores.masked_fill(~competing[:, None], 0).log_softmax(1).amax(1)
            log_confidence = torch.where(competing, share.to(log_confidence), log_confidence)
        chosen = competing.new_zeros(len(units))
        chosen[units.index[competing]] = True
        # Of a unit with options the other tokens do not count.
        counted = competing | ~chosen[units.index]
    mean = example_nll(-log_confidence[counted], units.index[counted], len(units), "mean")
    return (-mean).exp(), known_units(statistics, located).to(mean)


def read_calibration(
    model: nn.Module,
    dataset: Dataset,
    *,
    reader: Reader,
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
    prepare: Callable[[dict[str, Any]], dict[str, Any]],
    accelerator: Accelerator,
    batch_size: int,
    unit: Unit,
    nll_reduction: NllReduction,
    support: Support,
    step: int | None,
) -> CalibrationReading:
    """Read the calibration split with the model as it stands, on all ranks together.

    The batches are cut before they are dealt to the ranks, so that n processes compute what one
    would, to the bit, and every rank ends with the same threshold. No random number is drawn: the
    training goes on as if nothing had happened.

    Args:
        model: The model in training, wrapped or not.
        dataset: Prepared calibration split.
        reader: Takes batches through the model, as in the loss.
        collate: Makes a batch of rows, the same whether the training is packed or not.
        prepare: Moves a batch to the device.
        accelerator: Of the trainer.
        batch_size: Examples per forward pass.
        unit: What is judged as one, as in the loss.
        nll_reduction: As in the loss.
        support: Over which tokens the confidence is read, see `confident_units`.
        step: Optimiser step to record.
    """
    lengths = [len(ids) for ids in dataset["input_ids"]]
    order = sorted(range(len(dataset)), key=lambda index: -lengths[index])
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    ends = list(accumulate(len(unit_starts(labels, unit)) for labels in dataset["labels"]))
    result = torch.zeros(5, ends[-1], device=accelerator.device)
    with undisturbed(model, accelerator.device):
        # Sharded models gather their weights together: no rank may make fewer passes than another.
        rounds = -(-len(batches) // accelerator.num_processes)
        for turn in range(rounds):
            position = turn * accelerator.num_processes + accelerator.process_index
            rows = batches[min(position, len(batches) - 1)]
            batch = prepare(collate([dataset[index] for index in rows]))
            option_ids = batch.pop(OPTION_IDS, None)
            batch.pop(KNOWN, None)
            located = locate(batch, unit, option_ids)
            statistics = reader.statistics(model, batch, located)
            if position < len(batches):
                located = located.to(statistics.ce.device)
                index, size = located.units.index, len(located.units)
                nll = example_nll(statistics.ce, index, size, nll_reduction)
                own = example_nll(-statistics.log_confidence, index, size, nll_reduction)
                known = known_units(statistics, located)
                columns = [c for row in rows for c in range(ends[row - 1] if row else 0, ends[row])]
                answers = confident_units(statistics, located, support)
                result[:, columns] = torch.stack([nll, known.to(nll), *answers, own]).to(result)
    nll, known, confidence, right, own = accelerator.reduce(result, reduction="sum").cpu().numpy()
    threshold = estimate_threshold(nll, known == 1, step=step)
    curve = AccuracyCurve.fit(own, right)
    return CalibrationReading(threshold, float(confidence.mean()), float(right.mean()), curve)
