"""A configuration with what only model, machine and data decide: the number format of the weights,
the optimiser steps of so many epochs."""

from __future__ import annotations

import json

from cogcalib.harness.config import Config, parse_config
from cogcalib.modeling.model import chosen_device
from cogcalib.modeling.model_files import check_revision
from cogcalib.modeling.number_format import settled_dtype

TRAINED_IN = ("float32", "bfloat16")
"""Number formats that a run computes in. In float16 gradients would need a scaled loss."""


def settled(config: Config) -> tuple[Config, str]:
    """The configuration as it is carried out here, which a run's folder holds.

    Returns:
        The configuration with ``model.dtype`` named, and a sentence where that is not what the
        weights are stored in; else an empty one.

    Raises:
        ValueError: As `cogcalib.modeling.number_format.own_dtype`, or if ``model.revision`` is of
            no model on the hub.
    """
    section = config.model
    try:
        check_revision(section.path, section.revision)
        dtype, told = settled_dtype(
            section.dtype,
            section.path,
            chosen_device(),
            allowed=TRAINED_IN,
            revision=section.revision,
        )
    except ValueError as error:
        raise ValueError(f"model: {error}") from error
    model = section.model_copy(update={"dtype": dtype})
    return config.model_copy(update={"model": model}), told and f"model.{told}"


def with_steps(config: Config, examples: int) -> Config:
    """The configuration with ``train.steps`` for ``train.epochs``, if it has any.

    Args:
        config: Of a run, whose methods all take as many steps.
        examples: Of its training split.

    Raises:
        ConfigError: If so many steps are too few.
    """
    if config.train.epochs is None:
        return config
    values = config.model_dump(mode="json")
    values["train"] |= {"steps": config.train.steps_for(examples), "epochs": None}
    source = f"train.epochs = {config.train.epochs:g} of {examples} examples"
    return parse_config(json.dumps(values), source=source)
