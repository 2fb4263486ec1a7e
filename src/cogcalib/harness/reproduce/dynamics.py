"""Accuracy and confidence over training, on what the base model knew and on what it did not.

The asynchronous fit of Wang et al. (2025): on known examples accuracy is there from the start and
confidence grows on; on unknown ones both have to be learnt.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cogcalib.harness.config import Method
from cogcalib.harness.progress import Advance
from cogcalib.harness.run_folder import unfinished
from cogcalib.harness.stages import Loaded, RunContext, Splits, of_seed, train_into, with_steps
from cogcalib.records import Example
from cogcalib.scoring import ScoreSettings, primary_definition, score

POINTS = 16
"""Times that the model is looked at after the start."""


def dynamics(
    context: RunContext, method: Method, seed: int, splits: Splits
) -> list[dict[str, Any]]:
    """Train a model and look at it on the way; the model itself is not kept.

    Returns:
        A row for each look and group: ``step``, ``split`` (train or calibration), ``group``
        (``known`` or ``unknown`` to the base model), ``n``, ``accuracy``, ``confidence`` (primary
        definition); fractions.
    """
    config = with_steps(context.config, len(splits["train"]))
    output = context.folder.analysis("dynamics", method.name, seed).with_suffix("")
    # Of a cell that was killed, before or after its training was whole.
    for left in (output, unfinished(output)):
        shutil.rmtree(left, ignore_errors=True)
    steps = config.train.steps_for(0)
    looks = {round(steps * point / POINTS) for point in range(1, POINTS + 1)}
    rows: list[dict[str, Any]] = []

    def watch(loaded: Loaded) -> Advance:
        groups = _groups(context, loaded, of_seed(splits, seed))
        rows.extend(_look(context, loaded, groups, 0))

        def advance(step: int) -> None:
            if step in looks:
                rows.extend(_look(context, loaded, groups, step))

        return advance

    train_into(output, config, method, seed, splits, context.folder.read_probe(), watch)
    shutil.rmtree(output)
    return rows


Groups = Mapping[tuple[str, str], Sequence[Example]]


def _groups(context: RunContext, loaded: Loaded, splits: Splits) -> Groups:
    """(split, group) -> examples, by whether the base model answers them correctly."""
    groups: dict[tuple[str, str], list[Example]] = {}
    for split in ("train", "calibration"):
        predictions = score(*loaded, splits[split], _settings(context))
        for example, row in zip(splits[split], predictions, strict=True):
            name = "known" if row.correct else "unknown"
            groups.setdefault((split, name), []).append(example)
    return groups


def _look(context: RunContext, loaded: Loaded, groups: Groups, step: int) -> list[dict[str, Any]]:
    rows = []
    for (split, group), examples in groups.items():
        predictions = score(*loaded, examples, _settings(context))
        primary = primary_definition(predictions)
        rows.append(
            {
                "step": step,
                "split": split,
                "group": group,
                "n": len(examples),
                "accuracy": float(np.mean([row.correct for row in predictions])),
                "confidence": float(np.mean([row.confidence[primary] for row in predictions])),
            }
        )
    return rows


def _settings(context: RunContext) -> ScoreSettings:
    return ScoreSettings(batch_size=context.config.score.batch_size)
