"""A warning where a model answers no better than guessing among the options would."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest

from cogcalib.deployment.calibration_file import SplitMetrics

LEVEL = 0.05
"""Of the one-sided binomial test of an accuracy against chance."""


def said_of_guessing(metrics: SplitMetrics, options: Sequence[int]) -> str:
    """What is to be said of a model that guesses, or whose confidence says nothing; else empty.

    Args:
        metrics: Of the questions, with those behind the map.
        options: How many each has, [n]; 0 for generated answers, of which nothing can be said.
    """
    if not all(options):
        return ""
    n, accuracy = len(options), metrics.raw["accuracy"]["value"]
    chance, guessing = float(np.mean(1 / np.array(options))), float(np.mean(np.log(options)))
    if binomtest(round(accuracy * n), n, chance, alternative="greater").pvalue > LEVEL:
        return (
            f"The model answers {100 * accuracy:.1f} % correctly, which is not significantly more "
            f"than guessing among the options would ({100 * chance:.1f} %): it knows hardly "
            "anything of these questions, or they are too few."
        )
    nll = metrics.calibrated.get("nll")
    if nll is not None and nll["value"] >= guessing:
        return (
            f"The NLL behind the map, {nll['value']:.3f} nats, is no lower than that of guessing "
            f"among the options, {guessing:.3f}: the model's confidence says hardly anything about "
            "these questions, or they are too few."
        )
    return ""
