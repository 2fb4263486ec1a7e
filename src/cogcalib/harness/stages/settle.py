"""A configuration with what only model and machine decide: the number format of the weights."""

from __future__ import annotations

from cogcalib.harness.config import Config
from cogcalib.modeling.model import chosen_device
from cogcalib.modeling.number_format import settled_dtype

TRAINED_IN = ("float32", "bfloat16")
"""Number formats that a run computes in. In float16 gradients would need a scaled loss."""


def settled(config: Config) -> tuple[Config, str]:
    """The configuration as it is carried out here, which a run's folder holds.

    Returns:
        The configuration with ``model.dtype`` named, and a sentence where that is not what the
        weights are stored in; else an empty one.

    Raises:
        ValueError: As `cogcalib.modeling.number_format.own_dtype`.
    """
    section = config.model
    dtype, told = settled_dtype(section.dtype, section.path, chosen_device(), allowed=TRAINED_IN)
    model = section.model_copy(update={"dtype": dtype})
    return config.model_copy(update={"model": model}), told and f"model.{told}"
