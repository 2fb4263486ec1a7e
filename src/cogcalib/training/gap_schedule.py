"""``alpha="gap"``: its two curves, of the calibration split and of the examples last trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cogcalib.losses import GapCurve
from cogcalib.posthoc.isotonic_fit import isotonic_fit
from cogcalib.posthoc.platt import PlattScaling
from cogcalib.training.measured_answers import OwnAnswers

FOLDS = 5
"""Parts of a sample, of the confidences of each of which the others' fits are judged."""
PLACES = 65
"""Quantiles of the confidences where a curve is kept."""
FEWEST = 100
"""Answers that a curve needs; a calibration split with fewer is enough for itself."""

Numbers = NDArray[np.float64]


def gap_curve(
    held_out: OwnAnswers, seen: Sequence[tuple[int, float, float]], *, gated: bool
) -> GapCurve:
    """The schedule that a calibration split and the training show.

    Training answers are those that training itself saw: each before the step that learns it, with
    whatever noise the training has. They are what the loss is an average over, and cost nothing. An
    answer seen for the first time is no better than a held-out one.

    Args:
        held_out: The calibration split, by the model as it stands.
        seen: Rows of `RecentAnswers`.
        gated: Whether only what the model knows is smoothed.

    Returns:
        The curve; one that smooths nothing as long as too little has been seen, see `FEWEST`.
    """
    own, correct = (np.array([row[place] for row in seen], dtype=np.float64) for place in (1, 2))
    finite = np.isfinite(own)
    trained = OwnAnswers(own[finite], correct[finite])
    if len(trained.nll) < min(FEWEST, len(held_out.nll)) or not len(trained.nll):
        return GapCurve((0.0,), (1.0,), (1.0,), gated)
    both = np.concatenate([held_out.nll, trained.nll])
    places = np.unique(np.quantile(both, np.linspace(0, 1, PLACES)))
    a, q = (shrunk_accuracy(each, places) for each in (held_out, trained))
    return GapCurve(tuple(places.tolist()), tuple(a.tolist()), tuple(q.tolist()), gated)


def shrunk_accuracy(answers: OwnAnswers, at: Numbers) -> Numbers:
    """Accuracy by confidence: an isotonic regression, shrunk towards Platt's sigmoid.

    ``w iso + (1 - w) platt``. An isotonic regression follows any shape and, where answers are few,
    their noise: at the ends, where most answers of a certain model are, it says 0 and 1. Platt's
    sigmoid is steady, but of one shape. w is cross-fitted: the one in [0, 1] with the lowest Brier
    score of the mixture on answers that neither was fitted on, in `FOLDS` parts (stacking; Wolpert
    1992). Parts take turns in the order of the confidences, so that nothing is drawn and the order
    of the answers does not matter.

    Args:
        answers: To fit, n >= 1.
        at: NLLs of own answers where it is wanted, nats, ``[k]``.

    Returns:
        Fractions that never rise with the NLL, ``[k]``.
    """
    order = np.lexsort((answers.correct, answers.nll))
    nll, correct = answers.nll[order], answers.correct[order]
    weight = 0.0
    if len(nll) >= 2 * FOLDS:
        fold = np.arange(len(nll)) % FOLDS
        isotonic, platt = np.empty_like(nll), np.empty_like(nll)
        for each in range(FOLDS):
            out, kept = fold == each, fold != each
            isotonic[out] = _isotonic(nll[kept], correct[kept], nll[out])
            platt[out] = _platt(nll[kept], correct[kept], nll[out])
        apart = isotonic - platt
        weight = float(np.clip((correct - platt) @ apart / max(float(apart @ apart), 1e-12), 0, 1))
    return weight * _isotonic(nll, correct, at) + (1 - weight) * _platt(nll, correct, at)


def _isotonic(nll: Numbers, correct: Numbers, at: Numbers) -> Numbers:
    return np.interp(at, *isotonic_fit(nll, correct, increasing=False))


def _platt(nll: Numbers, correct: Numbers, at: Numbers) -> Numbers:
    fitted = PlattScaling().fit(np.exp(-np.maximum(nll, 0)), correct > 0.5)
    if fitted.slope_ > 0:
        return fitted.transform(np.exp(-np.maximum(at, 0)))
    # More confident and less often right: of functions that do not fall, the constant is best.
    return np.full_like(at, (correct.sum() + 1) / (len(correct) + 2))
