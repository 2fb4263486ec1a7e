"""Cheap signs of knowledge, read in one pass over the training format, and how well they tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cogcalib.inference.backend import Backend
from cogcalib.inference.transformers_backend import TransformersBackend
from cogcalib.metrics import auroc, bootstrap_interval
from cogcalib.modeling.encoding import encode_batch
from cogcalib.records import Example


@dataclass(frozen=True, slots=True)
class Signals:
    """What the supervised tokens show, the end token included, asked as in training: zero-shot.

    Attributes:
        nll: Mean of -log p(y_t), nats; what the gate `nll` looks at.
        margin: Mean of log p(y_t) - max_{v != y_t} log p(v), nats; above 0 at a token that greedy
            decoding gives.
        entropy: Mean entropy of the next-token distribution, nats. Needs the answer only to know
            where it stands, but the whole vocabulary; None where the model does not show that.
        p_gold: Probability of the whole answer, exp(sum log p(y_t)), a fraction.
        tokens: How many tokens.
    """

    nll: float
    margin: float
    entropy: float | None
    p_gold: float
    tokens: int


DETECTORS: Mapping[str, Callable[[Signals], float | None]] = {
    "nll": lambda row: -row.nll,
    "margin": lambda row: row.margin,
    "entropy": lambda row: None if row.entropy is None else -row.entropy,
    "p_gold": lambda row: row.p_gold,
}
"""Name -> a score that rises with the chance that the example is known; None: not measured."""


@dataclass(frozen=True, slots=True)
class Detection:
    """How well a detector tells known from other examples.

    Attributes:
        auroc: Area under the ROC curve, a fraction; nan if all are known or none is.
        low, high: Its 95 % bootstrap interval.
    """

    auroc: float
    low: float
    high: float


def read_signals(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    batch_size: int | None = None,
) -> list[Signals]:
    """Every example's signals, in one forward pass each, in the order given.

    Raises:
        ValueError: As `cogcalib.modeling.encode_batch`.
    """
    return read_signals_with(TransformersBackend(model, tokenizer, batch_size=batch_size), examples)


def read_signals_with(backend: Backend, examples: Sequence[Example]) -> list[Signals]:
    """`read_signals`, whatever engine the model runs in."""
    encoded = encode_batch(examples, backend.tokenizer, backend.positions)
    scores = backend.token_scores(
        [row.prompt_ids for row in encoded], [row.answer_ids for row in encoded]
    )
    return [
        Signals(
            nll=-row.log_p.mean().item(),
            margin=(row.log_p - row.best_other).mean().item(),
            entropy=None if row.entropy is None else row.entropy.mean().item(),
            p_gold=row.log_p.double().sum().exp().item(),
            tokens=len(row.log_p),
        )
        for row in scores
    ]


def scores_of(signals: Sequence[Signals]) -> dict[str, list[float]]:
    """Each detector's score of every example; without a detector that one of them lacks."""
    found = {}
    for name, score in DETECTORS.items():
        values = [value for row in signals if (value := score(row)) is not None]
        if len(values) == len(signals):
            found[name] = values
    return found


def detect(
    signals: Sequence[Signals], known: Sequence[bool], *, resamples: int = 1000
) -> dict[str, Detection]:
    """Each detector's AUROC against a label, with its interval.

    Args:
        signals: One an example.
        known: The label, such as SliCK's HighlyKnown against the rest.
        resamples: Bootstrap resamples.

    Returns:
        Of the detectors that `scores_of` names.
    """
    found = {}
    for name, scores in scores_of(signals).items():
        # The AUROC looks at ranks only, and takes fractions.
        ranks = rankdata(scores) / len(signals)
        low, high = bootstrap_interval(auroc, ranks, np.asarray(known), resamples=resamples)
        found[name] = Detection(auroc(ranks, known), low, high)
    return found
