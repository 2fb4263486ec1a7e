"""The grid of a search: values of alpha and margin to try, and the choice among their trials.

Every trial is a training of its own, and predicts nothing but the calibration split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

from cogcalib.harness.config import DEFAULT_RULE, Method, Rule
from cogcalib.harness.run_folder import RunFolder
from cogcalib.harness.selection import Selection, Trial, measure, select

GRID: Mapping[str, tuple[float, ...]] = {
    "label_smoothing": (0.05, 0.1, 0.2, 0.3),
    "margin": (0.1, 0.2, 0.3, 0.5),
    "entropy": (0.1, 0.2, 0.4, 0.8),
}
"""Penalty -> alphas tried. The focal loss has none: its alpha is 1 by definition."""
MARGINS: Mapping[str, tuple[float, ...]] = {"vocab": (4.0, 8.0, 16.0), "options": (1.0, 2.0, 4.0)}
"""Support -> margins tried at the alpha chosen, in logits."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """A method at the alpha and margin chosen for it.

    Attributes:
        method: As listed, without an alpha.
        chosen: The same with the alpha chosen.
        reason: For people.
        at_end: Whether alpha or margin is the smallest or largest that was tried.
    """

    method: str
    chosen: str
    reason: str
    at_end: bool = False


def is_tunable(method: Method) -> bool:
    """Whether a method has an alpha to choose that its name does not settle."""
    return method.penalty in GRID and method.alpha is None


def candidates(method: Method) -> list[Method]:
    """A method at every alpha of the grid, before post-hoc calibration."""
    before = method.before_posthoc
    return [Method.parse(before.at(alpha)) for alpha in GRID[str(method.penalty)]]


def read_trial(folder: RunFolder, method: str, seed: int) -> Trial:
    """Sum up the predictions of a finished trial."""
    return measure(folder.read_trial(method, seed), method, seed)


def choose_alpha(
    method: Method,
    trials: Sequence[Trial],
    rule: Rule = DEFAULT_RULE,
    among: Sequence[Method] | None = None,
) -> Tuned:
    """The alpha, and margin, that a rule chooses for a method.

    Args:
        method: A method of `is_tunable`.
        trials: As `select` takes them.
        rule: See `cogcalib.harness.selection`.
        among: The method at several alphas, or margins; None: its `candidates`.

    Raises:
        ValueError: If a trial is missing.
    """
    tried = candidates(method) if among is None else among
    found = select([each.name for each in tried], trials, rule)
    best = Method.parse(found.chosen)
    assert isinstance(best.alpha, float)
    alphas = [each.alpha for each in tried if isinstance(each.alpha, float)]
    margins = MARGINS[method.support]
    at_end = best.alpha in (min(alphas), max(alphas)) or best.margin in (margins[0], margins[-1])
    reason = found.reason + "; an end of what was tried" * at_end
    return Tuned(method.name, method.at(best.alpha, best.margin), reason, at_end)


def choose_supports(tuned: Sequence[Tuned], trials: Sequence[Trial], rule: Rule) -> list[Tuned]:
    """For every method that was tuned over both supports the better one."""
    found = []
    for vocab, options in permutations(tuned, 2):
        method = Method.parse(vocab.method)
        if method.support == "vocab" and method.differs_in_support_only(
            Method.parse(options.method)
        ):
            trained = {Method.parse(t.chosen).before_posthoc.name: t for t in (vocab, options)}
            best = select(list(trained), trials, rule)
            reason = f"{Method.parse(best.chosen).support}: {best.reason}"
            found.append(Tuned(method.name, trained[best.chosen].chosen, reason))
    return found


def recommend(tuned: Sequence[Tuned], trials: Sequence[Trial], rule: Rule) -> Selection | None:
    """The CogCalib variant that a report of the tuned run singles out, if it trains as here.

    None if no CogCalib variant was tuned.
    """
    names = [each.chosen for each in tuned if Method.parse(each.chosen).is_cogcalib_variant]
    return select(names, trials, rule) if names else None
