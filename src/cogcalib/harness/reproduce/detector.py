"""The NLL as a detector of what a model knows.

The threshold comes from the calibration split, as in training, and is judged on the test split:
known is what the model answers correctly by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cogcalib.harness.config import Method
from cogcalib.harness.stages import Loaded, RunContext, Splits, load_trained
from cogcalib.knowledge import Signals, detect, estimate_threshold, read_signals
from cogcalib.records import Example
from cogcalib.scoring import ScoreSettings, score


def detection(context: RunContext, method: Method, seed: int, splits: Splits) -> dict[str, Any]:
    """Look at one fine-tuned model.

    Returns:
        ``threshold`` (nats) and ``separation`` (TPR + TNR - 1) on the calibration split;
        ``accuracy`` of the threshold on the test split, ``share_known`` there (the accuracy of
        always saying the more frequent), and ``auroc``: detector -> ``auroc``, ``low``, ``high``.
        Fractions.
    """
    loaded = load_trained(context, method, seed)
    signals, known = _look(context, loaded, splits["calibration"])
    threshold = estimate_threshold([row.nll for row in signals], known)
    signals, known = _look(context, loaded, splits["test"])
    judged = np.array([row.nll for row in signals]) <= threshold.value
    return {
        "threshold": threshold.value,
        "separation": threshold.separation,
        "accuracy": float((judged == np.array(known)).mean()),
        "share_known": float(np.mean(known)),
        "auroc": {name: asdict(found) for name, found in detect(signals, known).items()},
    }


def _look(
    context: RunContext, loaded: Loaded, examples: Sequence[Example]
) -> tuple[list[Signals], list[bool]]:
    batch_size = context.config.score.batch_size
    signals = read_signals(*loaded, examples, batch_size=batch_size)
    predictions = score(*loaded, examples, ScoreSettings(batch_size=batch_size))
    return signals, [row.correct for row in predictions]
