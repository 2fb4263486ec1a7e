"""The calibration pass: one forward pass over the calibration split, and no trace of it left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import Tensor, nn

from cogcalib.knowledge.threshold import estimate_threshold
from cogcalib.losses import NllReduction, Support, TokenStatistics, example_nll
from cogcalib.records import InputError, Threshold
from cogcalib.training.collator import KNOWN, OPTION_IDS
from cogcalib.training.loss import LossRunner
from cogcalib.training.measured_answers import (
    MeasuredAnswers,
    OwnAnswers,
    confident_units,
    judge,
    own_answers,
)
from cogcalib.training.supervised_logits import undisturbed
from cogcalib.training.supervision import (
    SupervisedTokens,
    Unit,
    has_prompt,
    supervised_tokens,
    unit_starts,
)


@dataclass(frozen=True, slots=True)
class CalibrationPass:
    """What the calibration split says of a model.

    Attributes:
        threshold: On the NLL of what it knows.
        confidence: Mean over the units of `confident_units`, a fraction.
        accuracy: Share of the units that are correct.
        answers: The units judged, whatever the support; those of texts without a prompt answer
            nothing and are left out. None if no other are there.
        own: How sure it was of its own answers, and whether they are right.
        nll: Mean NLL of the right option among the options, nats; open-ended: of the gold answers,
            reduced as in the loss.
    """

    threshold: Threshold
    confidence: float
    accuracy: float
    answers: MeasuredAnswers | None
    own: OwnAnswers
    nll: float


def run_calibration_pass(
    model: nn.Module,
    dataset: Dataset,
    *,
    runner: LossRunner,
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
    prepare: Callable[[dict[str, Any]], dict[str, Any]],
    accelerator: Accelerator,
    batch_size: int,
    unit: Unit,
    nll_reduction: NllReduction,
    support: Support,
    step: int | None,
) -> CalibrationPass:
    """Measure the model, as it stands, on the calibration split, on all ranks together.

    The batches are cut before they are dealt to the ranks, so that n processes compute what one
    would, to the bit, and every rank ends with the same threshold. No random number is drawn: the
    training goes on as if nothing had happened.

    Args:
        model: The model in training, wrapped or not.
        dataset: Prepared calibration split.
        runner: Takes batches through the model, as in the loss.
        collate: Makes a batch of rows, the same whether the training is packed or not.
        prepare: Moves a batch to the device.
        accelerator: Of the trainer.
        batch_size: Examples per forward pass.
        unit: What is judged as one, as in the loss.
        nll_reduction: As in the loss.
        support: Over which tokens confidence is taken, see `confident_units`.
        step: Optimiser step to record.
    """
    lengths = [len(ids) for ids in dataset["input_ids"]]
    order = sorted(range(len(dataset)), key=lambda index: -lengths[index])
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    counts = [len(unit_starts(labels, unit)) for labels in dataset["labels"]]
    ends = list(accumulate(counts))
    asked = np.repeat([has_prompt(labels) for labels in dataset["labels"]], counts)
    result = torch.zeros(8, ends[-1], device=accelerator.device)
    with undisturbed(model, accelerator.device):
        # Sharded models gather their weights together: no rank may make fewer passes than another.
        rounds = -(-len(batches) // accelerator.num_processes)
        for turn in range(rounds):
            position = turn * accelerator.num_processes + accelerator.process_index
            rows = batches[min(position, len(batches) - 1)]
            batch = prepare(collate([dataset[index] for index in rows]))
            option_ids = batch.pop(OPTION_IDS, None)
            batch.pop(KNOWN, None)
            tokens = supervised_tokens(batch, unit, option_ids)
            statistics = runner.statistics(model, batch, tokens)
            if position < len(batches):
                columns = [c for row in rows for c in range(ends[row - 1] if row else 0, ends[row])]
                measured = _measured(statistics, tokens, nll_reduction, support)
                result[:, columns] = measured.to(result)
    found = accelerator.reduce(result, reduction="sum").cpu()
    nll, known, confidence, correct, own = found[:5]
    _check_converging(nll, step)
    answers = MeasuredAnswers.of_units(found[5:, asked].numpy())
    among = None if answers is None else answers.nll
    return CalibrationPass(
        threshold=estimate_threshold(nll.numpy(), known.numpy() == 1, step=step),
        confidence=float(confidence.numpy().mean()),
        accuracy=float(correct.numpy().mean()),
        answers=answers,
        own=OwnAnswers(own.double().numpy(), correct.double().numpy()),
        nll=float((nll.double().numpy() if among is None else among).mean()),
    )


def _check_converging(nll: Tensor, step: int | None) -> None:
    if nll.isnan().any():
        raise InputError(
            f"the training has diverged: at step {step} the model's log-probabilities on the "
            "calibration split are no numbers; lower learning_rate, or train in float32 or bfloat16"
        )


def _measured(
    statistics: TokenStatistics,
    tokens: SupervisedTokens,
    nll_reduction: NllReduction,
    support: Support,
) -> Tensor:
    """NLL, known, confidence, correct, NLL of the model's own answer, and what `judge` finds: of
    each unit, ``[8, U]``."""
    tokens = tokens.to(statistics.ce.device)
    index, size = tokens.units.index, len(tokens.units)
    nll = example_nll(statistics.ce, index, size, nll_reduction)
    own, known = own_answers(statistics, tokens, nll_reduction)
    found = [nll, known, *confident_units(statistics, tokens, support), own]
    return torch.stack([*found, *judge(statistics, tokens).to(nll)])
